package history

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// File is a history under way in a file.
type File struct {
	*Writer

	file *os.File
}

// Create begins a history in a new file; one that is there is overwritten.
func Create(path string) (*File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return &File{Writer: NewWriter(f, 0), file: f}, nil
}

// Check ends the record and checks it.
func (f *File) Check(ctx context.Context, o Options) (Report, error) {
	if err := errors.Join(f.Close(), f.file.Close()); err != nil {
		return Report{}, err
	}
	return CheckFile(ctx, f.file.Name(), o)
}

// Abandon closes the file of a run that came to nothing. It is harmless after Check.
func (f *File) Abandon() { _ = f.file.Close() } // what is in it is of no use

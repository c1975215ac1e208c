package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const promoteMax = time.Minute // for a standby to replay what it has and to begin its own history

// Standby makes a replica of the running server in a new folder and starts it:
// asynchronous, so that its promotion may lose the last commits. Settings are
// the server's unless cfg has others; some must not be lower than there.
func (s *Server) Standby(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Bin == "" {
		cfg.Bin = s.bin
	}
	all := maps.Clone(s.settings)
	delete(all, "listen_addresses") // is decided by cfg.TCP
	maps.Copy(all, cfg.Settings)
	all["primary_conninfo"] = fmt.Sprintf("host=%s port=%d user=%s application_name=standby", s.scratch, s.port, superuser)
	cfg.Settings = all
	return start(ctx, cfg, func(standby *Server, ctx context.Context, cfg Config) error {
		return standby.copyFrom(ctx, s, cfg.Durable)
	})
}

func (s *Server) copyFrom(ctx context.Context, primary *Server, durable bool) error {
	args := []string{
		"-D", s.dir, "-h", primary.scratch, "-p", strconv.Itoa(primary.port), "-U", superuser,
		"--no-password", "--checkpoint=fast", "--wal-method=stream",
	}
	if !durable {
		args = append(args, "--no-sync")
	}
	if err := s.tool(ctx, "pg_basebackup", args...); err != nil {
		return err
	}
	return errors.Join(s.configure(), s.write(signalName, ""))
}

// Promote ends the recovery of a standby, and returns when it can be written to.
func (s *Server) Promote(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotRunning
	}
	seconds := strconv.Itoa(int(promoteMax / time.Second))
	if err := s.tool(ctx, "pg_ctl", "promote", "-D", s.dir, "--wait", "--timeout", seconds); err != nil {
		return err
	}
	// The server removes the file when it has left recovery for good.
	if _, err := os.Stat(filepath.Join(s.dir, signalName)); err == nil {
		return errors.New("promote the standby: it is still one")
	}
	return nil
}

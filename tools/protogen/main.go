// Command protogen generates Go code from .proto files: it compiles them and runs
// protoc-gen-go, both of the versions that its go.mod pins, so that whoever checks
// the generated code needs Go and nothing else.
//
//	go run . -root ../.. actors/wire.proto
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const readable = 0o644

func main() {
	root := flag.String("root", ".", "the folder that the files' paths begin in")
	check := flag.Bool("check", false, "change nothing; fail if what is there isn't what would be written")
	flag.Parse()
	if err := run(context.Background(), *root, flag.Args(), *check); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, files []string, check bool) error {
	request, err := compile(ctx, root, files)
	if err != nil {
		return err
	}
	response, err := generate(ctx, request)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range response.GetFile() {
		errs = append(errs, put(filepath.Join(root, f.GetName()), []byte(f.GetContent()), check))
	}
	return errors.Join(errs...)
}

func compile(ctx context.Context, root string, files []string) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files, Parameter: proto.String("paths=source_relative")}
	for _, f := range compiled {
		request.ProtoFile = append(request.ProtoFile, proto.Clone(protoutil.ProtoFromFileDescriptor(f)).(*descriptorpb.FileDescriptorProto))
	}
	return proto.Marshal(request)
}

func generate(ctx context.Context, request []byte) (*pluginpb.CodeGeneratorResponse, error) {
	plugin := exec.CommandContext(ctx, "go", "tool", "protoc-gen-go")
	plugin.Stdin, plugin.Stderr = bytes.NewReader(request), os.Stderr
	out, err := plugin.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out, response); err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response, nil
}

func put(path string, text []byte, check bool) error {
	if !check {
		return os.WriteFile(path, text, readable)
	}
	there, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, text) {
		return fmt.Errorf("%s isn't what %s generates: run make generate", path, strings.TrimSuffix(filepath.Base(path), ".pb.go")+".proto")
	}
	return nil
}

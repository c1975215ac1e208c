// Package node puts a Parley node together from its configuration, and is the
// command line: Main is the whole of a bot developer's own main function.
//
// It is the only package that reads flags, environment and files of
// configuration, and the only one that knows all the others.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/parleychat/parley"
)

// The exit codes of the command.
const (
	exitOK      = 0
	exitFailed  = 1 // a broken promise, a body that isn't JSON, a configuration that is wrong
	exitUsage   = 2
	maxTurnRAM  = 64 << 20 // of one goroutine's stack: an endless recursion ends here, not at 1 GB
	envPrefix   = "PARLEY" // of the environment variables that stand for flags
	description = `Parley runs chat conversations at webhook scale: it verifies Meta's webhooks
(Messenger, Instagram, WhatsApp), makes them durable before it acknowledges them,
lets your bot handle each conversation's events once and in order, and sends the
replies within Meta's limits.`
)

// command is the command line.
type command struct {
	Dev     devCommand     `cmd:"" help:"Chat with your bot in the browser: a node, a simulated Meta and phones to play with."`
	Serve   serveCommand   `cmd:"" help:"Run a node: webhooks in, replies out."`
	Demo    demoCommand    `cmd:"" help:"Run a node against a simulated Meta and check every promise from outside."`
	Migrate migrateCommand `cmd:"" help:"Make or update the schema of a PostgreSQL database."`
	Store   storeCommand   `cmd:"" help:"Back up what a node has stored, restore it, or move it to PostgreSQL."`
	Cluster clusterCommand `cmd:"" help:"See how a cluster is, find a conversation, drain a node."`
	Bot     botCommand     `cmd:"" help:"Hold the bots of this program to what is stored, before it is started."`
	Audit   auditCommand   `cmd:"" help:"Hold what is stored to what was acknowledged, and name what is missing."`
	Letters lettersCommand `cmd:"" name:"deadletters" help:"See what bots could not handle and Meta would not take, and retry or drop it."`
	Media   mediaCommand   `cmd:"" help:"Leave files with Meta for bots to send."`
	Sim     simCommand     `cmd:"" help:"Play Meta against any webhook receiver, and judge it."`
	Decode  decodeCommand  `cmd:"" help:"Read a webhook body on standard input and print its events, one JSON line each."`
	Version versionCommand `cmd:"" help:"Print the version."`
	DevNode devNodeCommand `cmd:"" hidden:"" name:"dev-node" help:"Run the node of parley dev, which starts it."`
	DevPlay devPlayCommand `cmd:"" hidden:"" name:"dev-play" help:"Make a transcript of a history, for parley dev."`
	Bare    bareCommand    `cmd:"" hidden:"" help:"Run the bare server that is the unit of the benchmarks."`
}

// system is what a command may touch of the process.
type system struct {
	in     io.Reader
	out    io.Writer
	errors io.Writer
	bots   []parley.Bot
}

// Main runs the command line for the given bots and exits the process. It is
// all that a bot developer's main function calls.
func Main(bots ...parley.Bot) {
	debug.SetMaxStack(maxTurnRAM)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // main's context
	code := run(ctx, system{in: os.Stdin, out: os.Stdout, errors: os.Stderr, bots: bots}, os.Args[1:])
	stop()
	os.Exit(code)
}

// exitError ends the command with a code; its text, if any, has been printed.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// run parses and runs one command line, and returns the exit code.
func run(ctx context.Context, sys system, args []string) (code int) {
	var cmd command
	parser, err := kong.New(&cmd,
		kong.Name("parley"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(sys.out, sys.errors), kong.DefaultEnvars(envPrefix),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Exit(func(c int) { panic(exitError{code: c}) }),
	)
	if err != nil {
		_, _ = fmt.Fprintln(sys.errors, "parley:", err)
		return exitUsage
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exitError: // --help
			code = r.code
		default:
			panic(r)
		}
	}()
	parsed, err := parser.Parse(args)
	if err != nil {
		parser.Errorf("%s", err)
		_, _ = fmt.Fprintln(sys.errors, "Run \"parley --help\" for the commands, \"parley <command> --help\" for their flags.")
		return exitUsage
	}
	err = parsed.Run(&sys)
	var exit exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	}
	_, _ = fmt.Fprintln(sys.errors, "parley:", err)
	return exitFailed
}

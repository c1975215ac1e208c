// Package pgserver runs a private PostgreSQL server as a child process: for
// tests, for the demonstration and for benchmarks.
//
// The server belongs to who started it: nobody else knows where it listens (a
// socket in a folder of its own, unless TCP is asked for), and it ends with the
// process that started it, however that ends (on Linux). It can be treated as
// badly as a real one is by fate: killed, frozen, started again, given a replica
// that is promoted.
//
// There is no password: whoever reaches the socket, or with TCP the port on the
// loopback, is the superuser. So it is no server for data that matters.
//
// A Server may be used by several goroutines. The package imports nothing of
// Parley and speaks no SQL.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	superuser  = "postgres"
	socketPort = 5432 // without TCP it is only part of the socket's name
	confName   = "pgserver.conf"
	signalName = "standby.signal"

	ownerOnly     = 0o700
	ownerOnlyFile = 0o600

	// socketPathMax is how long the path of a socket may be on the system that
	// allows least.
	socketPathMax = 103
)

// Config says which server is wanted. The zero value is one for tests: in a
// temporary folder, on a socket, and not durable.
type Config struct {
	// Bin is the folder that holds initdb and postgres; by default Find's.
	Bin string
	// Dir is the data directory. What is in it is used; if there is nothing, a
	// new cluster is made. By default it is a temporary folder that Stop removes.
	// If this process is root, the server is not, so the folders above must let
	// others through.
	Dir string
	// Durable makes the server flush what it commits. Otherwise it survives its
	// own death, but not that of the machine.
	Durable bool
	// Settings are those of postgresql.conf, and win over this package's.
	Settings map[string]string
	// TCP makes the server listen on a free port of the loopback as well.
	TCP bool
	// Env is added to the environment of the server's processes.
	Env []string
	// Log is the file that the server's log is appended to; by default one in a
	// temporary folder that Stop removes.
	Log string
}

// Server is a PostgreSQL server, running or not.
type Server struct {
	bin      string
	dir      string
	scratch  string // sockets, the log and perhaps the data; removed by Stop
	log      string
	port     int
	tcp      bool
	settings map[string]string
	env      []string
	account  *account

	mu    sync.Mutex
	run   *run          // nil if it was stopped or killed
	spent time.Duration // CPU time of the runs that have ended
}

// Start makes a cluster if there is none, starts the server, and returns when it
// accepts connections. The end of ctx does not stop it; Stop does.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, (*Server).initialize)
}

// start makes a server, fills its folder, and starts it. What it made is
// removed again if that fails.
func start(ctx context.Context, cfg Config, fill func(*Server, context.Context, Config) error) (*Server, error) {
	s, err := newServer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := fill(s, ctx, cfg); err != nil {
		return nil, errors.Join(err, s.clean())
	}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, s.clean())
	}
	return s, nil
}

func newServer(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{bin: cfg.Bin, dir: cfg.Dir, log: cfg.Log, port: socketPort, tcp: cfg.TCP, settings: settings(cfg), env: cfg.Env}
	var err error
	if s.bin == "" {
		if s.bin, err = Find(); err != nil {
			return nil, err
		}
	}
	if err := linkLibraries(filepath.Dir(s.bin)); err != nil {
		return nil, err
	}
	if s.account, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.tcp {
		if s.port, err = FreePort(ctx); err != nil {
			return nil, err
		}
	}
	if s.scratch, err = scratchFolder(); err != nil {
		return nil, err
	}
	if s.log == "" {
		s.log = filepath.Join(s.scratch, "postgres.log")
	}
	if s.dir == "" {
		s.dir = filepath.Join(s.scratch, "data")
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), s.clean())
	}
	if err := errors.Join(s.own(s.scratch), s.own(s.dir)); err != nil {
		return nil, errors.Join(err, s.clean())
	}
	if err := s.reachable(cfg.Dir != ""); err != nil {
		return nil, errors.Join(err, s.clean())
	}
	return s, nil
}

// scratchFolder makes a folder whose path leaves room for a socket's name.
func scratchFolder() (string, error) {
	parent := os.TempDir()
	if len(filepath.Join(parent, "parley-pg-1234567890", socketName(65535)+".lock")) > socketPathMax {
		parent = "/tmp"
	}
	folder, err := os.MkdirTemp(parent, "parley-pg-")
	if err != nil {
		return "", fmt.Errorf("folder for the server: %w", err)
	}
	return folder, nil
}

func socketName(port int) string { return ".s.PGSQL." + strconv.Itoa(port) }

// reachable says in time what the server would only say as "permission denied".
func (s *Server) reachable(dirGiven bool) error {
	err := errors.Join(s.account.reaches(filepath.Join(s.bin, "postgres")), s.account.reaches(s.scratch))
	if dirGiven {
		err = errors.Join(err, s.account.reaches(s.dir))
	}
	return err
}

// own makes a folder, if there is none, and gives it to the server's account.
func (s *Server) own(folder string) error {
	if err := os.MkdirAll(folder, ownerOnly); err != nil {
		return fmt.Errorf("folder for the server: %w", err)
	}
	if err := os.Chmod(folder, ownerOnly); err != nil {
		return fmt.Errorf("folder for the server: %w", err)
	}
	return s.account.give(folder)
}

// initialize makes a cluster, unless there is one.
func (s *Server) initialize(ctx context.Context, cfg Config) error {
	if _, err := os.Stat(filepath.Join(s.dir, "PG_VERSION")); err == nil {
		return s.configure()
	}
	args := []string{"-D", s.dir, "-U", superuser, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"}
	if !cfg.Durable {
		args = append(args, "--no-sync")
	}
	if err := s.tool(ctx, "initdb", args...); err != nil {
		return err
	}
	return s.configure()
}

// configure writes the settings into a file of their own, which postgresql.conf
// includes as its last word.
func (s *Server) configure() error {
	if err := s.write(confName, s.conf()); err != nil {
		return err
	}
	main := filepath.Join(s.dir, "postgresql.conf")
	text, err := os.ReadFile(main)
	if err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	include := "\ninclude '" + confName + "'\n"
	if strings.Contains(string(text), include) {
		return nil
	}
	return s.write("postgresql.conf", string(text)+include)
}

// write writes a file of the data directory as the server's account would.
func (s *Server) write(name, text string) error {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), ownerOnlyFile); err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	return s.account.give(path)
}

// URL is the connection string for a database of this server, through its socket.
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.scratch}, "port": {strconv.Itoa(s.port)}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// Socket is the path of the socket that the server listens on.
func (s *Server) Socket() string { return filepath.Join(s.scratch, socketName(s.port)) }

// Addr is the loopback address that the server listens on; empty without TCP.
func (s *Server) Addr() string {
	if !s.tcp {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// Bin is the folder of the programs that the server was started from.
func (s *Server) Bin() string { return s.bin }

// Dir is the data directory.
func (s *Server) Dir() string { return s.dir }

// Log is the path of the server's log.
func (s *Server) Log() string { return s.log }

// clean removes what newServer made.
func (s *Server) clean() error {
	if err := os.RemoveAll(s.scratch); err != nil {
		return fmt.Errorf("remove the server's folder: %w", err)
	}
	return nil
}

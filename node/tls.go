package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// reloadEvery is how often files of certificates and keys are looked at for
// changes, at most.
const reloadEvery = 5 * time.Second

// credentials are what this node proves itself with to the others, and what it
// demands of them: a certificate of the cluster's own authority. Names in
// certificates aren't compared: nodes come and go, and whoever has a certificate of
// that authority is a member. So it must be one that signs nothing else.
//
// The files are read again when they change, so that certificates can be renewed
// while the node runs. What can't be read leaves the earlier ones in use.
type credentials struct {
	certificate, key, authority string
	log                         *slog.Logger
	now                         func() time.Time

	mu      sync.Mutex
	looked  time.Time
	changed [3]time.Time
	own     *tls.Certificate
	pool    *x509.CertPool
}

// openCredentials reads the files.
func openCredentials(cfg TLSConfig, dir string, log *slog.Logger, now func() time.Time) (*credentials, error) {
	in := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	c := &credentials{certificate: in(cfg.Certificate), key: in(cfg.Key), authority: in(cfg.Authority), log: log, now: now}
	c.changed, _ = c.times()
	c.looked = now()
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *credentials) times() (changed [3]time.Time, err error) {
	for i, path := range []string{c.certificate, c.key, c.authority} {
		info, failed := os.Stat(path)
		if failed != nil {
			return changed, failed
		}
		changed[i] = info.ModTime()
	}
	return changed, nil
}

func (c *credentials) read() error {
	own, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("cluster.tls: certificate and key: %w", err)
	}
	pem, err := os.ReadFile(c.authority)
	if err != nil {
		return fmt.Errorf("cluster.tls: authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("cluster.tls: authority: %s holds no certificate", c.authority)
	}
	c.own, c.pool = &own, pool
	return nil
}

// current is what the files hold.
func (c *credentials) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.looked) < reloadEvery {
		return c.own, c.pool
	}
	c.looked = now
	changed, err := c.times()
	if err == nil && changed == c.changed {
		return c.own, c.pool
	}
	if err == nil {
		err = c.read()
	}
	if err != nil { // halfway written, perhaps: looked at again
		c.log.Warn("the certificates for other nodes can't be read again; the earlier ones stay in use", slog.Any("error", err))
		return c.own, c.pool
	}
	c.changed = changed
	c.log.Info("new certificates are in use for connections to other nodes")
	return c.own, c.pool
}

var errNoCertificate = errors.New("the other node shows no certificate")

// config is for both sides of a connection.
func (c *credentials) config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // what is resumed isn't verified anew
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection does it, without the name; see credentials
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			own, _ := c.current()
			return own, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, _ := c.current()
			return own, nil
		},
		VerifyConnection: c.verify,
	}
}

func (c *credentials) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errNoCertificate
	}
	_, pool := c.current()
	between := x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: c.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("the other node's certificate: %w", err)
	}
	return nil
}

package clustertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// What WriteCredentials writes.
const (
	AuthorityFile   = "authority.crt"
	CertificateFile = "node.crt"
	KeyFile         = "node.key"
	GossipKeyFile   = "gossip.key"
)

const (
	gossipKeyBytes  = 32
	fileMode        = 0o600
	credentialsLast = 24 * time.Hour
	serialBits      = 127
)

// WriteCredentials makes an authority, a certificate of it that all nodes of a
// cluster share, and a key of gossip. They last for a day.
func WriteCredentials(dir string, now time.Time) error {
	authority, err := newCertificate("authority of a test", nil, now)
	if err != nil {
		return err
	}
	node, err := newCertificate("node", authority, now)
	if err != nil {
		return err
	}
	key := make([]byte, gossipKeyBytes)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	private, err := x509.MarshalPKCS8PrivateKey(node.key)
	if err != nil {
		return fmt.Errorf("make credentials: %w", err)
	}
	for name, text := range map[string][]byte{
		AuthorityFile:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.der}),
		CertificateFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.der}),
		KeyFile:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		GossipKeyFile:   []byte(base64.StdEncoding.EncodeToString(key)),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, fileMode))
	}
	return err
}

type certificate struct {
	der  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCertificate makes one, signed by an authority or, if there is none, by itself.
func newCertificate(name string, by *certificate, now time.Time) (*certificate, error) {
	c := &certificate{}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err == nil {
		c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("make credentials: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(credentialsLast),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, c.key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage |= x509.KeyUsageCertSign
		template.ExtKeyUsage = nil
	} else {
		parent, signer = by.cert, by.key
	}
	if c.der, err = x509.CreateCertificate(rand.Reader, template, parent, &c.key.PublicKey, signer); err == nil {
		c.cert, err = x509.ParseCertificate(c.der)
	}
	if err != nil {
		return nil, fmt.Errorf("make credentials: %w", err)
	}
	return c, nil
}

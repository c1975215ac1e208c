package node

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

const (
	credentialsLast = 24 * time.Hour
	serialBits      = 127
)

// writeCredentials makes an authority for one demonstration, a certificate that all
// its nodes share, and a key of gossip.
func writeCredentials(dir string, now time.Time) (ClusterConfig, error) {
	cfg := ClusterConfig{
		Keys: []Secret{"file:gossip.key"},
		TLS:  TLSConfig{Certificate: "node.crt", Key: "node.key", Authority: "authority.crt"},
	}
	authority, err := newCertificate("demonstration", nil, now)
	if err != nil {
		return cfg, err
	}
	node, err := newCertificate("node", authority, now)
	if err != nil {
		return cfg, err
	}
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	private, err := x509.MarshalPKCS8PrivateKey(node.key)
	if err != nil {
		return cfg, fmt.Errorf("make credentials: %w", err)
	}
	for name, text := range map[string][]byte{
		"authority.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.der}),
		"node.crt":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.der}),
		"node.key":      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"gossip.key":    []byte(base64.StdEncoding.EncodeToString(key)),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, secretMode))
	}
	return cfg, err
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

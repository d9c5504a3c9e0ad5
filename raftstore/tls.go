package raftstore

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

// The protocols of the peer port, told apart by ALPN.
const (
	protoRaft = "earshot-raft/1"
	protoPeer = "earshot-peer/1"
)

// anyServer is the TLS server name of a node whose server id the client does
// not know. A client that does know it names it instead, so that nothing
// meant for one disk is ever taken by another at the same address (rule P9).
const anyServer = "earshot"

// ErrWrongKey is wrapped by the error of a connection to a peer that has
// another cluster key.
var ErrWrongKey = errors.New("another cluster key")

// errOtherServer refuses a connection that is meant for another server id.
var errOtherServer = errors.New("connection is meant for another server")

// identity is a node's part in the cluster's mutual TLS. There is no other
// authority than the key: whoever has it can be any node.
type identity struct {
	cert tls.Certificate
	pool *x509.CertPool
	id   string
}

// newIdentity issues a certificate for the node of the given name and server
// id, from the authority that the key stands for.
func newIdentity(key Key, name, id string) (*identity, error) {
	if key.text == "" {
		return nil, fmt.Errorf("issue certificate: %w: there is none", ErrKey)
	}
	seed, err := hkdf.Key(sha256.New, []byte(key.text), []byte("earshot"), "peer ca 1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive authority: %w", err)
	}
	authority := ed25519.NewKeyFromSeed(seed)
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "earshot cluster"},
		NotBefore:             always(-1),
		NotAfter:              always(1),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	root, err := issue(ca, ca, authority.Public(), authority)
	if err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate node key: %w", err)
	}
	leaf, err := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{anyServer, id},
		NotBefore:    always(-1),
		NotAfter:     always(1),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, root, public, authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &identity{
		cert: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: private, Leaf: leaf},
		pool: pool,
		id:   id,
	}, nil
}

func issue(template, parent *x509.Certificate, public, signer any) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return cert, nil
}

// always is a time before, at or after the one at which every certificate is
// judged. Nodes' clocks may be wrong, and a cluster must not end on a date, so
// certificates have no time at all.
func always(side int) time.Time {
	return time.Date(2100+50*side, 1, 1, 0, 0, 0, 0, time.UTC)
}

// server is the configuration of the peer port.
func (i *identity) server() *tls.Config {
	config := &tls.Config{
		Certificates:           []tls.Certificate{i.cert},
		ClientCAs:              i.pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       curves(),
		NextProtos:             []string{protoRaft, protoPeer},
		SessionTicketsDisabled: true,
		Time:                   func() time.Time { return always(0) },
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != anyServer && hello.ServerName != i.id {
			return nil, fmt.Errorf("%w: %q", errOtherServer, hello.ServerName)
		}
		return nil, nil
	}
	return config
}

// client is the configuration of a connection to the server of the given id,
// or to anyServer.
func (i *identity) client(proto, id string) *tls.Config {
	return &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &i.cert, nil },
		RootCAs:              i.pool,
		ServerName:           id,
		MinVersion:           tls.VersionTLS13,
		CurvePreferences:     curves(),
		NextProtos:           []string{proto},
		Time:                 func() time.Time { return always(0) },
	}
}

// curves are the key exchanges between peers. Go's own choice adds one that
// withstands quantum computers, at twice the cost of a handshake, of which many
// nodes make many; and what peers tell each other nobody needs in years to come.
func curves() []tls.CurveID { return []tls.CurveID{tls.X25519} }

// explain turns the error of a handshake into what it means for an operator.
func explain(peer string, err error) error {
	if otherKey(err) {
		return fmt.Errorf("peer %s has %w", peer, ErrWrongKey)
	}
	return err
}

// otherKey reports whether a handshake failed over the authority. The side
// that the other one refuses learns of it by an alert only.
func otherKey(err error) bool {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	alert := op.Err.Error()
	return alert == "tls: bad certificate" || alert == "tls: unknown certificate authority"
}

// PeerName is the name of the node that sent a request, from its certificate.
func PeerName(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

const quicProtocol = "earshot-echo"

// quicReport is what a client tells at its end.
type quicReport struct {
	Connections int
	Exchanges   int64
	Error       string `json:",omitempty"`
}

// playQUICServer echoes streams at the address that it is given.
func playQUICServer(args []string) int {
	fmt.Fprintln(os.Stderr, quicServe(context.Background(), args[0]))
	return 1
}

// quicServe echoes until that fails.
func quicServe(ctx context.Context, address string) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	ln, err := quic.ListenAddr(address, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{quicProtocol}}, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return err
		}
		go func() {
			for {
				stream, err := conn.AcceptStream(ctx)
				if err != nil {
					return // the client has gone
				}
				go func() {
					_, _ = io.Copy(stream, stream)
					stream.Close()
				}()
			}
		}()
	}
}

func selfSigned() (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

// playQUICClient keeps connections open and opens new ones until its input ends.
func playQUICClient(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := json.NewEncoder(os.Stdout).Encode(quicAsk(ctx, args[0])); err != nil {
		return 1
	}
	return 0
}

// quicAsk opens a connection every half second and asks on each ten times a
// second; none may break.
func quicAsk(ctx context.Context, address string) quicReport {
	var report quicReport
	var exchanges atomic.Int64
	failed := make(chan error, 1)
	running := make(chan struct{}, 1000)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var failure error
	for ctx.Err() == nil && failure == nil {
		report.Connections++
		running <- struct{}{}
		go func() {
			defer func() { <-running }()
			if err := quicExchange(ctx, address, &exchanges); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}()
		select {
		case <-ctx.Done():
		case failure = <-failed:
		case <-tick.C:
		}
	}
	for range cap(running) {
		running <- struct{}{} // all have ended
	}
	select {
	case failure = <-failed:
	default:
	}
	if report.Exchanges = exchanges.Load(); failure != nil {
		report.Error = failure.Error()
	}
	return report
}

// quicExchange asks on one connection until ctx ends.
func quicExchange(ctx context.Context, address string, exchanges *atomic.Int64) error {
	dialing, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(dialing, address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{quicProtocol}}, nil)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	stream, err := conn.OpenStreamSync(dialing)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 4)
	for {
		if err := stream.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
			return err
		}
		if _, err := stream.Write([]byte("ping")); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if _, err := io.ReadFull(stream, buf); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		exchanges.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

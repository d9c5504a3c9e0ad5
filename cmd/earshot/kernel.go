package main

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// kernel is what commands without an agent want of the kernel.
type kernel interface {
	// Probe looks for what the services need. It changes nothing.
	Probe(services []nft.Service) []nft.Finding
	// Flush removes every trace of Earshot, and says what it removed.
	Flush() ([]string, error)
}

// hostKernel is this machine's kernel.
type hostKernel struct{}

// Probe implements kernel.
func (hostKernel) Probe(services []nft.Service) []nft.Finding { return nft.Probe(services) }

// Flush implements kernel.
func (hostKernel) Flush() ([]string, error) {
	return nft.Flush(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// kernelServices are the services as the kernel is asked about them, before
// the cluster has given them a seed and an owner for each bucket.
func kernelServices(definitions []raftstore.Definition) []nft.Service {
	var services []nft.Service
	for _, d := range definitions {
		services = append(services, nft.Service{
			Name:      d.Name,
			Address:   d.Address.Addr(),
			Interface: d.Interface,
			MAC:       d.HardwareAddr(),
			Hash:      hashmode.Spec{Mode: d.Hash, Buckets: d.Buckets, Seed: 1, Prefix: d.Prefix},
			Ports:     kernelPorts(d.Ports),
			MayRefuse: d.Fallback == raftstore.FallbackRefuse,
			CountNew:  d.Balance == raftstore.BalanceLoad,
		})
	}
	return services
}

// kernelPorts reads ports that checkPort has found good.
func kernelPorts(list []string) []nft.Port {
	var ports []nft.Port
	for _, s := range list {
		if p, err := nft.ParsePort(s); err == nil {
			ports = append(ports, p)
		}
	}
	return ports
}

// probeFailure is the first finding that the agent cannot work with, or nil.
func probeFailure(findings []nft.Finding) error {
	for _, f := range findings {
		if f.Severity == nft.Fail {
			return withHint(failure(f), f.Mend)
		}
	}
	return nil
}

// startFailure is the first finding that an agent cannot start with, or nil. What
// keeps it from some services alone is no such thing, if the kernel can be asked
// again: a machine that comes up without one of its interfaces serves the others.
func startFailure(findings []nft.Finding, services []nft.Service) (later []nft.Finding, err error) {
	at := map[string]netip.Addr{}
	left := map[netip.Addr]bool{}
	for _, s := range services {
		at[s.Name], left[s.Address] = s.Address, true
	}
	fatal := slices.DeleteFunc(slices.Clone(findings), func(f nft.Finding) bool {
		if f.Severity != nft.Fail || f.Service == "" || !passing(f.Err) {
			return false
		}
		delete(left, at[f.Service])
		later = append(later, f)
		return true
	})
	if len(left) == 0 {
		return nil, probeFailure(findings)
	}
	return later, probeFailure(fatal)
}

// passing reports whether the agent looks again for what is missing.
func passing(err error) bool {
	return errors.Is(err, nft.ErrNoInterface) || errors.Is(err, nft.ErrOwnAddress) || errors.Is(err, syscall.ENETDOWN)
}

// failure is a finding as an error.
func failure(f nft.Finding) error {
	what := f.Text()
	if f.Service != "" {
		what = "service " + f.Service + ": " + what
	}
	return found{what, f.Err}
}

// found is an error in a finding's words.
type found struct {
	what string
	err  error
}

func (f found) Error() string { return f.what }

func (f found) Unwrap() error { return f.err }

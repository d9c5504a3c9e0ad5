package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"earshot/nft"
)

// TestMain makes this test binary the earshot of the scripts, too: the real
// program but for the kernel and the agent's work.
func TestMain(m *testing.M) {
	defineFlags()
	testscript.Main(m, map[string]func(){"earshot": func() {
		a := app{
			stdout: os.Stdout,
			stderr: os.Stderr,
			kernel: scriptKernel(os.Getenv("KERNEL")),
			question: func(string) (string, bool) {
				answer, asked := os.LookupEnv("ANSWER")
				return answer, asked
			},
			runAgent: func(context.Context, config, *slog.Logger) error { return errors.New("the agent ran") },
		}
		os.Exit(a.run(context.Background(), os.Args[1:]))
	}})
}

// scriptKernel is a kernel as a script wants it: "empty", "used" or "poor".
type scriptKernel string

func (k scriptKernel) Probe(services []nft.Service) []nft.Finding {
	findings := []nft.Finding{{Severity: nft.OK, What: "nf_tables"}}
	for _, s := range services {
		f := nft.Finding{Service: s.Name, Severity: nft.Warn, What: "rp_filter is 1", Mend: "set it to 2"}
		if k == "poor" {
			f = nft.Finding{Service: s.Name, Severity: nft.Fail, What: "interface " + s.Interface, Mend: "name one that exists", Err: nft.ErrNoInterface}
		}
		findings = append(findings, f)
	}
	return findings
}

func (k scriptKernel) Flush() ([]string, error) {
	switch k {
	case "used":
		return []string{"address 192.168.56.20 on eth1", "table inet earshot"}, nil
	case "poor":
		return nil, errors.New("open netlink: operation not permitted")
	}
	return nil, nil
}

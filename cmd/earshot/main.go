// Command earshot runs a node of a cluster that needs no load balancer
// (earshot agent), and talks to it (everything else).
package main

import (
	"context"
	"os"

	"earshot/coordinator/child"
)

func main() {
	if child.Requested(os.Args) { // the agent starts its hooks and checks through itself
		os.Exit(child.Become(os.Args))
	}
	a := app{
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		terminal: terminalOf(os.Stdout),
		kernel:   hostKernel{},
		runAgent: runAgent,
		question: func(text string) (string, bool) { return askAt(os.Stdin, os.Stdout, text) },
	}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

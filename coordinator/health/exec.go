package health

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"earshot/coordinator/child"
)

// script is a program that is asked by its exit status, and by what it writes.
type script struct {
	runner   *child.Runner
	args     []string
	statuses statuses
	expect   expectation
}

// probe returns the probe. Nothing of the program is left when it returns: its
// group is killed, as is what has left the group.
func (p script) probe() probe {
	return func(ctx context.Context) error {
		family := newFamily()
		result, err := p.runner.Run(ctx, child.Command{Args: p.args, Env: []string{family.mark}, MaxOutput: maxOutput})
		family.kill()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%s did not end in time%s", p.args[0], firstLine(result.Output))
		case err != nil:
			return err
		case result.Signal != 0 || !p.statuses.have(result.Exit):
			return fmt.Errorf("%s: %s, not %s%s", p.args[0], result, p.statuses, firstLine(result.Output))
		}
		return p.expect.in(result.Output, "its output")
	}
}

// firstLine is the beginning of a program's output, for a reason.
func firstLine(output []byte) string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	if first == "" {
		return ""
	}
	return ": " + first
}

package lab

import (
	"fmt"
	"os/exec"
)

// DefaultBin is where this module's commands build earshot, from its root.
const DefaultBin = "bin/earshot"

// Build builds earshot from this module. Call it in Program.Before: it takes
// the user's own file system.
func Build(path string) error {
	cmd := exec.Command("go", "build", "-o", path, "earshot/cmd/earshot")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build earshot (run this within its module): %w\n%s", err, out)
	}
	return nil
}

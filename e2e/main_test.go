package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Program{Before: build, Run: m.Run, Roles: load.Roles()}.Main())
}

// binary is the program under test.
func binary() (string, error) {
	if bin := os.Getenv("EARSHOT_BIN"); bin != "" {
		return bin, nil
	}
	return filepath.Abs("../bin/earshot")
}

// build builds the program under test, unless another is named.
func build() error {
	if os.Getenv("EARSHOT_BIN") != "" {
		return nil
	}
	bin, err := binary()
	if err != nil {
		return err
	}
	return lab.Build(bin)
}

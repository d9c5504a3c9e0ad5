package health

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fileProbe asks whether a file exists, and has what is expected.
func fileProbe(path string, expect expectation) probe {
	return func(context.Context) error {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s does not exist", path)
		case err != nil:
			return err
		case expect.none():
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no ordinary file", path)
		}
		// It may have become a pipe, on which opening would wait.
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		content, err := readBounded(f, maxContent, path)
		if err != nil {
			return err
		}
		return expect.in(content, path)
	}
}

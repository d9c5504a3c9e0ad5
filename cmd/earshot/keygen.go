package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"earshot/raftstore"
)

func (a *app) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a cluster key",
		Long: `Make a cluster key and write it to FILE (default ` + defaultKeyFile + `), readable by
its owner alone. A file that is there is never overwritten. "-" writes to the
standard output.

The key is the same on every node of a cluster: copy the file. Whoever has it can
read and change the cluster's state.`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.does(func(_ *cobra.Command, args []string) error {
			key := raftstore.GenerateKey().Text()
			file := optional(args)
			switch file {
			case "-":
				_, err := fmt.Fprintln(a.stdout, key)
				return err
			case "":
				file = defaultKeyFile
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					return fmt.Errorf("make directory of key file: %w", err)
				}
			}
			if err := writeKey(file, key); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "wrote %s; copy it to every node (mode 0600)\n", file)
			return nil
		}),
	}
}

// writeKey writes a key to a new file. A file half written is removed.
func writeKey(file, key string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return withHint(fmt.Errorf("write key: %s is there already", file),
			"a new key shuts out every node that has the old one; move the file away if that is meant")
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.WriteString(key + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(file)
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

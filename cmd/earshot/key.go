package main

import (
	"errors"
	"io/fs"

	"earshot/raftstore"
)

// readKey reads the cluster key, and knows the way out if it cannot be used.
func readKey(file string) (raftstore.Key, error) {
	key, err := raftstore.ReadKeyFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = withHint(err, "make one with `earshot keygen "+file+"` on one node and copy it to the others")
	case errors.Is(err, raftstore.ErrKey):
		err = withHint(err, "the file must be the one that `earshot keygen` wrote, with mode 0600 (chmod 600 "+file+")")
	}
	return key, err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"earshot/e2e/lab"
)

// diskSize is that of a node's disk, in memory.
const diskSize = 32 << 20

// smallDisk gives a node a file system of its own for its data, one that can be
// filled. It is gone with the lab's mount namespace.
func smallDisk(n *lab.Node) error {
	if err := os.MkdirAll(n.Path("data"), 0o700); err != nil {
		return err
	}
	if err := unix.Mount("earshot", n.Path("data"), "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", diskSize)); err != nil {
		return fmt.Errorf("mount a small disk for %s: %w", n.Name, err)
	}
	return nil
}

// detachDisk takes the file system away, if there is one, so that its place can
// be removed.
func detachDisk(n *lab.Node) error {
	err := unix.Unmount(n.Path("data"), unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// fullDisk fills a node's disk and has commands committed meanwhile, so that
// there is something to write.
func (a *attack) fullDisk() (err error) {
	n, err := a.someone()
	if err != nil {
		return err
	}
	fill := n.Path(filepath.Join("data", "fill"))
	if err := fillUp(fill); err != nil {
		return err
	}
	d := a.span(200*time.Millisecond, 4*time.Second)
	a.say("for %v", d)
	err = errors.Join(a.pass(d), os.Remove(fill))
	if !n.Running() {
		a.say("and its agent ended")
		err = errors.Join(err, n.Start())
	}
	return err
}

// fillUp writes a file until the disk is full.
func fillUp(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, zeros{})
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", err)
	}
	return nil
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

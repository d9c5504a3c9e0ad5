package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// facts say what was measured, and on which machine.
type facts struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"` // of earshot
	Kernel  string    `json:"kernel"`
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Memory  uint64    `json:"memory_mib"`
	Go      string    `json:"go"`
	Root    bool      `json:"root"`
	// Load is the load average at the start: above the number of cores,
	// others are at work here, and the figures suffer.
	Load float64 `json:"load"`
	// Disk is the kind of file system that the nodes' data lies on.
	Disk string `json:"disk"`
}

// gather looks at the machine.
func gather(ctx context.Context, r *rig) facts {
	f := facts{Time: time.Now().UTC(), Cores: runtime.NumCPU(), Go: runtime.Version(), Root: initialRoot()}
	f.Version, f.CPU, f.Disk = r.version(ctx), cpuModel(), fileSystem(r.dir)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var i unix.Sysinfo_t
	if unix.Sysinfo(&i) == nil {
		f.Memory = uint64(i.Totalram) * uint64(i.Unit) >> 20 //nolint:unconvert // 32 bits on other machines
		f.Load = float64(i.Loads[0]) / (1 << 16)
	}
	return f
}

// String is the facts for people.
func (f facts) String() string {
	user := "in a user namespace"
	if f.Root {
		user = "as root"
	}
	s := fmt.Sprintf("%s\nLinux %s, %d cores (%s), %d MiB, load %.1f, %s; data on %s\n%s, %s",
		f.Version, f.Kernel, f.Cores, f.CPU, f.Memory, f.Load, user, f.Disk, f.Go, f.Time.Format(time.DateTime+" MST"))
	if f.Load > float64(f.Cores) {
		s += "\nWARNING: this machine is busy with something else; do not trust the times below"
	}
	return s
}

// initialRoot reports whether root here is root outside, too.
func initialRoot() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295"
}

// cpuModel is the processor's name.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the kind of file system that a directory lies on.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	switch int64(s.Type) { //nolint:unconvert // 32 bits on other machines
	case unix.TMPFS_MAGIC:
		return "tmpfs, where fsync costs nothing"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	}
	return fmt.Sprintf("file system %#x", s.Type)
}

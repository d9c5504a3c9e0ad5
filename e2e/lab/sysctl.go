package lab

import (
	"os"
	"path/filepath"
)

// writeSysctl writes a setting of the calling thread's network namespace.
func writeSysctl(path, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0)
}

// writeSys writes an attribute of a link in sysfs, which shows the network
// namespace of whoever mounted it: call it on a namespace's own thread.
func writeSys(link, attribute, value string) error {
	return os.WriteFile(filepath.Join("/sys/class/net", link, attribute), []byte(value), 0)
}

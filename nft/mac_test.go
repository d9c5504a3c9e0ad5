package nft

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"strings"
)

// joined lists the multicast MACs that an interface has for good: lines of
// index, interface, users, global use and address.
func (w *world) joined(ifname string) (macs []net.HardwareAddr) {
	w.t.Helper()
	var file []byte
	w.node.Do(func() {
		var err error
		file, err = os.ReadFile("/proc/thread-self/net/dev_mcast")
		must(w.t, err)
	})
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) == 5 && f[1] == ifname && f[3] != "0" {
			mac, err := hex.DecodeString(f[4])
			must(w.t, err)
			macs = append(macs, mac)
		}
	}
	return macs
}

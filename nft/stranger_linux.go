package nft

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mdlayher/ethernet"
)

// A host that has the address answers a probe at once; what has not
// come within strangerWait, with a second probe half way, will not come.
const strangerWait = 400 * time.Millisecond

// probeStranger asks the segment whether a host has the address without the
// cluster MAC. Members of the cluster answer with that MAC.
func (p *Plane) probeStranger(a address) Finding {
	f := Finding{Service: a.Services[0].Name, Severity: OK, What: fmt.Sprintf("no stranger has %s", a.Addr)}
	var stranger net.HardwareAddr
	err := p.ns.do(func() error {
		var err error
		stranger, err = askStranger(a)
		return err
	})
	switch {
	case err != nil:
		f.Severity, f.What, f.Err = Warn, "who has "+a.Addr.String(), err
	case stranger != nil:
		f.Severity, f.What = Fail, fmt.Sprintf("the host with MAC %s has %s", stranger, a.Addr)
		f.Mend = "take the address from that host, or choose another"
		f.Err = errors.New("address in use")
	}
	return f
}

// askStranger returns the first foreign MAC that answers for the address.
func askStranger(a address) (net.HardwareAddr, error) {
	asker, err := newAsker(a)
	if err != nil {
		return nil, err
	}
	defer asker.conn.Close()
	for range 2 {
		if err := asker.ask(); err != nil {
			return nil, err
		}
		if err := asker.conn.SetReadDeadline(time.Now().Add(strangerWait / 2)); err != nil {
			return nil, err
		}
		stranger, err := asker.readStranger()
		if stranger != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return stranger, err
		}
	}
	return nil, nil
}

// readStranger reads frames until somebody else claims the address or the
// deadline is over.
func (a asker) readStranger() (net.HardwareAddr, error) {
	buf := make([]byte, 2048)
	for {
		n, _, err := a.conn.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		var frame ethernet.Frame
		if frame.UnmarshalBinary(buf[:n]) != nil {
			continue
		}
		if mac := a.claim(frame); mac != nil && !bytes.Equal(mac, a.MAC) {
			return mac, nil
		}
	}
}

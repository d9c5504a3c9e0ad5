package nft

import (
	"fmt"
	"sync"

	"github.com/ti-mo/conntrack"
)

// tracker asks conntrack over a lasting connection. Whoever closes a netfilter
// socket has the kernel wait for what nf_tables is about to free, a grace
// period of RCU, while it keeps all transactions of the namespace waiting
// (nft_rcv_nl_event in net/netfilter/nf_tables_api.c): on a machine that is
// short of processor time that is longer than a lease.
type tracker struct {
	ns namespace

	mu   sync.Mutex // guards conn
	conn *conntrack.Conn
}

// ask calls f with the connection, and drops that if f fails.
func (t *tracker) ask(f func(*conntrack.Conn) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		err := t.ns.do(func() (err error) {
			t.conn, err = conntrack.Dial(nil)
			return err
		})
		if err != nil {
			t.conn = nil
			return fmt.Errorf("open conntrack: %w", err)
		}
	}
	err := f(t.conn)
	if err != nil {
		t.hangUp()
	}
	return err
}

// close lets go of the connection.
func (t *tracker) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.hangUp()
	}
}

// hangUp closes the connection; the caller holds the lock.
func (t *tracker) hangUp() {
	_ = t.conn.Close() // nothing is lost with it
	t.conn = nil
}

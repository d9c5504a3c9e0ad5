package nft

import (
	"fmt"
	"sync"
)

// tracker asks conntrack over a lasting connection. Whoever closes a netfilter
// socket has the kernel wait for what nf_tables is about to free, a grace
// period of RCU, while it keeps all transactions of the namespace waiting
// (nft_rcv_nl_event in net/netfilter/nf_tables_api.c): on a machine that is
// short of processor time that is longer than a lease.
type tracker struct {
	ns namespace

	mu   sync.Mutex // guards conn
	conn *netfilter
}

// ask calls f with the connection, and drops that if f fails.
func (t *tracker) ask(f func(*netfilter) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		c, err := t.ns.dialNetfilter(receiveBuffer)
		if err != nil {
			return fmt.Errorf("open conntrack: %w", err)
		}
		t.conn = c
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
	_ = t.conn.close() // nothing is lost with it
	t.conn = nil
}

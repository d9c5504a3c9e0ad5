package nft

import (
	"errors"
	"fmt"
	"net"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// Announce tells the segments of the services that their addresses are at the
// cluster MACs: by gratuitous ARP, or by a neighbour advertisement that nobody
// asked for. The cluster MAC stands in the payload alone; the frames come from
// the interface's own MAC, so that no switch learns the cluster MAC. Raw
// frames pass by the rules: the caller must have a lease.
func (p *Plane) Announce(services []Service) error {
	all, err := addresses(services)
	if err != nil {
		return err
	}
	var failed []error
	for _, a := range all {
		err := p.ns.do(func() error { return announce(a) })
		if err != nil {
			failed = append(failed, fmt.Errorf("announce %s on %s: %w", a.Addr, a.Interface, err))
		}
	}
	return errors.Join(failed...)
}

func announce(a address) error {
	asker, err := newAsker(a)
	if err != nil {
		return err
	}
	defer asker.conn.Close()
	return asker.announce()
}

// An asker speaks, on a segment, the protocol by which the MAC of an address
// is asked for: ARP or neighbour discovery.
type asker struct {
	address
	conn *packet.Conn
	ifi  *net.Interface
}

func newAsker(a address) (asker, error) {
	ifi, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return asker{}, err
	}
	listen := listenARP
	if a.Addr.Is6() {
		listen = listenNeighbour
	}
	conn, err := listen(ifi, a.Addr)
	return asker{a, conn, ifi}, err
}

// announce says where the address is.
func (a asker) announce() error {
	if a.Addr.Is6() {
		return a.announceNeighbour()
	}
	return a.announceARP()
}

// ask asks who has the address, and claims nothing.
func (a asker) ask() error {
	if a.Addr.Is6() {
		return a.askNeighbour()
	}
	return a.askARP()
}

// claim reads a frame: the MAC that it says the address is at, or nil.
func (a asker) claim(frame ethernet.Frame) net.HardwareAddr {
	if a.Addr.Is6() {
		return a.neighbourClaim(frame)
	}
	return a.arpClaim(frame)
}

// send sends a frame from the interface's own MAC.
func (a asker) send(to net.HardwareAddr, kind ethernet.EtherType, payload []byte) error {
	frame := ethernet.Frame{Destination: to, Source: a.ifi.HardwareAddr, EtherType: kind, Payload: payload}
	wire, err := frame.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = a.conn.WriteTo(wire, &packet.Addr{HardwareAddr: to})
	return err
}

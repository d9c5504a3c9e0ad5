package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"earshot/e2e/lab"
	"earshot/hashmode"
	"earshot/nft/nfttest"
)

var floodRate = flag.Int("moves.flood", 8000, "spoofed packets per second at buckets that move, half of them SYNs")

const (
	floodFrames = 20_000
	// floodHeld is the least that must have been held to show anything.
	floodHeld = 2000
	// agentMost bounds an agent's memory, in KiB: it runs in some 30 MiB, and a
	// full queue of 60,000 packets takes less than as much again.
	agentMost = 200 << 10
)

// Spoofed datagrams and SYNs of many sources come at buckets that move. Real
// clients are answered once, their flows stay, and the agents stay small. What
// finds no room among what is held costs its client a delay.
func TestAFloodAtMovingBuckets(t *testing.T) {
	longStory(t)
	inPeace(t, func(t *testing.T) *crowd {
		c := handed(t)
		frames := c.spoofed()
		ctx, stop := context.WithCancel(t.Context())
		sent := make(chan int)
		go func() { sent <- c.flood(ctx, frames) }()
		c.pass()
		c.handOver()
		sharesBecome(t, c.third, c.heir.Name, func(own int) bool { return own >= 341 })
		for range 3 {
			c.pass()
		}
		use, err := c.heir.QueueUse(heldQueue)
		c.must(err)
		stop()
		t.Logf("%d packets of the flood; the new owner's queue was given %d and had no room for %d", <-sent, use.Given, use.Lost)
		if use.Given < floodHeld {
			t.Errorf("only %d packets were held: nothing is shown", use.Given)
		}
		for _, n := range c.lab.Nodes {
			most, err := peakMemory(n)
			c.must(err)
			t.Logf("the agent of %s had %d KiB at most", n.Name, most)
			if most > agentMost {
				t.Errorf("the agent of %s had %d KiB at most, more than %d", n.Name, most, agentMost)
			}
		}
		c.pass()
		return c.crowd
	}, func(t *testing.T, p parting) {
		p.faithful(t)
		noFailure(t, newTCP, p.records[newTCP])
	})
}

// spoofed are datagrams and SYNs in turn, to the buckets that move, from
// addresses of the second client that nobody has asked from.
func (c transfer) spoofed() [][]byte {
	c.t.Helper()
	st := ask(c.t, c.third)
	moving, err := hashmode.ParseSet(handMoved, 1024)
	c.must(err)
	flooder := c.lab.Clients[1]
	mac, err := net.ParseMAC(st.service("web").MAC)
	c.must(err)
	var frames [][]byte
	for len(frames) < floodFrames {
		p := nfttest.Packet{Protocol: nfttest.TCP, Flags: nfttest.SYN, Seq: rand.Uint32()}
		service, port := "web", uint16(webPort)
		if len(frames)%2 == 1 {
			p = nfttest.Packet{Protocol: nfttest.UDP, Payload: make([]byte, 64)}
			service, port = "echo", onceAPort
		}
		p.From = netip.AddrPortFrom(flooder.Source(rand.IntN(1<<16)), uint16(1024+rand.IntN(60_000)))
		p.To = netip.AddrPortFrom(serviceAddr, port)
		spec := hashmode.Spec{Mode: hashmode.SourceIPSourcePort, Buckets: 1024, Seed: st.service(service).Seed}
		if moving.Has(spec.Bucket(p.From, port)) {
			frames = append(frames, p.Frames(flooder.Port.MAC, mac)[0])
		}
	}
	return frames
}

// flood sends frames, again and again, until ctx ends, and says how many.
func (c transfer) flood(ctx context.Context, frames [][]byte) (sent int) {
	flooder := c.lab.Clients[1]
	var conn *packet.Conn
	err := flooder.Do(func() error {
		ifi, err := net.InterfaceByName(flooder.Port.Device)
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOPBACK, nil)
		}
		return err
	})
	if err != nil {
		c.t.Error(err)
		return 0
	}
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	refused := 0
	for start := time.Now(); ; {
		select {
		case <-ctx.Done():
			if refused > sent/10 {
				c.t.Errorf("%d of %d frames were not sent", refused, sent)
			}
			return sent
		case <-tick.C:
		}
		most := sent + *floodRate/100 // after a pause no more than this at once
		for due := int(time.Since(start).Seconds() * float64(*floodRate)); sent < min(due, most); sent++ {
			f := frames[sent%len(frames)]
			if _, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: net.HardwareAddr(f[:6])}); err != nil {
				refused++
			}
		}
	}
}

// peakMemory is the most that a node's agent has had in memory, in KiB.
func peakMemory(n *lab.Node) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Agent().Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var most int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &most); err == nil {
			return most, nil
		}
	}
	return 0, errors.New("no VmHWM in /proc/PID/status")
}

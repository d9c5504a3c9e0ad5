package health

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// nameServer is a real one at a free port, for both transports.
func nameServer(t *testing.T, handler dns.HandlerFunc) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := packets.LocalAddr().String()
	stream, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("the port is another's for tcp: %v", err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() {
		packets.Close()
		stream.Close()
	})
	return address
}

// zone answers as a server of one name does.
func zone(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(q)
	switch {
	case q.Question[0].Name != "www.example.":
		answer.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		record, err := dns.NewRR("www.example. 60 IN A 192.0.2.7")
		if err != nil {
			return
		}
		answer.Answer = append(answer.Answer, record)
	}
	_ = w.WriteMsg(answer)
}

func TestDNS(t *testing.T) {
	address := nameServer(t, zone)
	for _, transport := range []string{"", "tcp"} {
		spec := Spec{Kind: DNS, Target: address, Name: "www.example", Transport: transport}
		judges(t, spec, "")
		spec.Expect = "192.0.2.7"
		judges(t, spec, "")
		spec.Expect = "192.0.2.8"
		judges(t, spec, "does not contain")
		spec.Expect, spec.Type = "", "aaaa"
		judges(t, spec, "knows no AAAA of www.example")
		spec.Name, spec.Type = "ftp.example", ""
		judges(t, spec, "NXDOMAIN")
	}
}

func TestNameServersThatMisbehave(t *testing.T) {
	ask := func(address, transport string) Spec {
		return Spec{Kind: DNS, Target: address, Name: "www.example", Transport: transport}
	}
	silent := nameServer(t, func(dns.ResponseWriter, *dns.Msg) {})
	judges(t, short(ask(silent, "udp")), "in time")
	judges(t, short(ask(silent, "tcp")), "in time")
	judges(t, ask(refusing(t), "udp"), "connection refused")
	judges(t, ask(refusing(t), "tcp"), "connection refused")
	refuses := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		_ = w.WriteMsg(answer.SetRcode(q, dns.RcodeRefused))
	})
	judges(t, ask(refuses, "udp"), "REFUSED")
	garbage := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		_, _ = w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0, 0, 1, 0, 9, 0, 9, 0, 9, 0xc0, 0x0c})
	})
	for name, s := range map[string]Spec{
		"garbage over udp": ask(garbage, "udp"),
		"garbage over tcp": ask(garbage, "tcp"),
		"closes early":     ask(listen(t, says("\x02")), "tcp"),
		"resets":           ask(listen(t, resets), "tcp"),
		"sends for ever":   ask(listen(t, endless("", "x")), "tcp"),
		"another's answer": short(ask(nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
			q.Id++
			zone(w, q)
		}), "udp")),
		"another question": ask(nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
			q.Question[0].Name = "other.example."
			zone(w, q)
		}), "udp"),
	} {
		if once(t, s) == "" {
			t.Errorf("%s: it is well", name)
		}
	}
}

package main

import (
	"bytes"
	"net"
	"net/netip"

	"earshot/nft"
)

// macStealth is the mac_mode with a unicast MAC that no frame comes from.
const macStealth = "stealth"

// mac reads the cluster MAC, or derives it from the address.
func (l *loader) mac(key, s string, address netip.Prefix, mode string) string {
	if !l.given(key) {
		if !address.IsValid() {
			return ""
		}
		s = deriveMAC(address.Addr(), mode).String()
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		l.refuse(key, "%q is no MAC address, as in 01:00:5e:28:38:14", s)
		return ""
	}
	if mode == macStealth {
		l.checkStealth(key, mac)
	} else {
		l.checkMulticast(key, mac, address)
	}
	return mac.String()
}

func deriveMAC(address netip.Addr, mode string) net.HardwareAddr {
	if mode == macStealth {
		return nft.StealthMAC(address)
	}
	return nft.DefaultMAC(address)
}

// checkStealth refuses a MAC that could be, or belong to, a real interface.
func (l *loader) checkStealth(key string, mac net.HardwareAddr) {
	if mac[0]&3 != 2 {
		l.advise("leave the key out: one is derived from the address", key,
			"%s is no stealth MAC: it must be unicast and locally administered, as in 02:…", mac)
	}
}

// checkMulticast refuses a MAC that reaches one node only, and warns of one
// that reaches others.
func (l *loader) checkMulticast(key string, mac net.HardwareAddr, address netip.Prefix) {
	prefix, others, whose := []byte{0x01, 0x00, 0x5e}, []byte{0x01, 0x00, 0x5e, 0, 0}, "224.0.0.x"
	if address.IsValid() && address.Addr().Is6() {
		prefix, others, whose = []byte{0x33, 0x33}, []byte{0x33, 0x33, 0xff}, "solicited nodes"
	}
	switch {
	case bytes.Equal(mac, []byte{255, 255, 255, 255, 255, 255}):
		l.refuse(key, "%s is the broadcast MAC", mac)
	case mac[0]&1 == 0:
		l.advise("leave the key out: one is derived from the address", key,
			"%s is no multicast MAC (its first byte is even): switches would bring the frames to one node", mac)
	case !bytes.HasPrefix(mac, prefix):
		l.warn(key, "%s is outside %s: switches with snooping may not deliver it to every node", mac, net.HardwareAddr(prefix))
	case bytes.HasPrefix(mac, others):
		l.warn(key, "%s is also a MAC of %s, which other protocols use", mac, whose)
	}
}

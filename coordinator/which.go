package coordinator

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"earshot/raftstore"
)

// which answers whose flow a client's would be.
func which(st *raftstore.State, service, client, port string) (Which, error) {
	v, ok := st.Services[service]
	if !ok {
		return Which{}, fmt.Errorf("%w %q", raftstore.ErrUnknownService, service)
	}
	src, err := parseClient(v, client)
	if err != nil {
		return Which{}, err
	}
	dport, err := destPort(v, port)
	if err != nil {
		return Which{}, err
	}
	b := v.Spec().Bucket(src, dport)
	slot := v.Map[b]
	return Which{
		Service: service, Client: client, Bucket: uint32(b),
		Node: slot.Owner, From: append([]string{}, slot.From...),
	}, nil
}

// misuse is the refusal of a request that is wrong in itself.
func misuse(hint, format string, args ...any) error {
	return &RemoteError{Message: fmt.Sprintf(format, args...), Hint: hint, Misuse: true}
}

// parseClient reads a client's address, and its port where the hash needs it.
func parseClient(v raftstore.Service, client string) (netip.AddrPort, error) {
	src, err := netip.ParseAddrPort(client)
	if err != nil {
		addr, err := netip.ParseAddr(strings.Trim(client, "[]"))
		if err != nil {
			return netip.AddrPort{}, misuse("write 192.0.2.7 or 192.0.2.7:4711", "%q is no client address", client)
		}
		if v.Hash.SourcePort() {
			return netip.AddrPort{}, misuse(fmt.Sprintf("write %s:PORT", client),
				"service %s hashes by %s, which needs the client's port", v.Name, v.Hash)
		}
		src = netip.AddrPortFrom(addr, 0)
	}
	if src.Addr().Unmap().Is4() != v.Address.Addr().Is4() {
		return netip.AddrPort{}, misuse("", "client %s cannot reach service %s, which has the address %s", client, v.Name, v.Address.Addr())
	}
	return src, nil
}

// destPort reads the service's port where the hash needs it.
func destPort(v raftstore.Service, port string) (uint16, error) {
	if !v.Hash.DestPort() {
		return 0, nil
	}
	if port == "" && len(v.Ports) == 1 {
		port = v.Ports[0]
	}
	if port == "" {
		return 0, misuse("name it with --port, as in --port tcp/443", "service %s hashes by %s, which needs the port that the client goes to", v.Name, v.Hash)
	}
	_, number, found := strings.Cut(port, "/")
	if !found {
		number = port
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return 0, misuse("write tcp/443", "%q is no port", port)
	}
	return uint16(n), nil
}

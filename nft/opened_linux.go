package nft

import (
	"fmt"

	"github.com/google/nftables"

	"earshot/hashmode"
)

// Opened reads from the kernel in which buckets of the services new flows are
// let through, lease or not: those that the node owns or inherits.
func (p *Plane) Opened(services []string) (map[string]hashmode.Set, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var k kernel
	err := p.wire.read(func(c *nftables.Conn) error {
		var err error
		k, err = readKernel(c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read opened buckets: %w", err)
	}
	opened := map[string]hashmode.Set{}
	for _, name := range services {
		own, inherit := k.contents.buckets[setID{inet, setOwn(name)}], k.contents.buckets[setID{inet, setInherit(name)}]
		opened[name] = own.Union(inherit)
	}
	return opened, nil
}

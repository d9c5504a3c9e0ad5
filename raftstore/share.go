package raftstore

import (
	"fmt"
	"maps"
)

// Share is what a node had of a service, and with which weight.
type Share struct {
	Buckets int `json:"buckets"`
	Weight  int `json:"weight"`
}

// keepShares enters the shares that the load has made, by service.
func (s *State) keepShares(all map[string]map[string]Share) error {
	for name, shares := range all {
		v, err := s.service(name)
		if err != nil {
			return fmt.Errorf("shares: %w", err)
		}
		for node, share := range shares {
			if _, err := s.node(node); err != nil {
				return fmt.Errorf("shares: %w", err)
			}
			if share.Buckets < 0 || share.Weight < 0 || share.Weight > MaxWeight {
				return fmt.Errorf("shares: %w: %+v for %s", ErrCommand, share, node)
			}
		}
		v.Shares = maps.Clone(shares)
		s.Services[name] = v
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// leaveMember leaves in dir what a node n1 leaves there that was a member
// beside n2 and n3: a store runs for a moment.
func leaveMember(dir string) error {
	const listen = "127.0.0.1:0"
	s, err := raftstore.Open(raftstore.Options{
		Name: "n1", Listen: listen, DataDir: dir, Key: raftstore.GenerateKey(), Weight: 1, Lease: 300 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, raftstore.Hooks{}) }()
	changed, cancel := s.Changed()
	defer cancel()
	for s.State().Nodes["n1"].Name == "" {
		select {
		case <-changed:
		case err := <-ended:
			return errors.Join(errors.New("the store ended"), err)
		}
	}
	for _, c := range []raftstore.Command{
		{Join: &raftstore.Join{Name: "n2", ServerID: "2", Listen: "192.168.56.12:7440", Weight: 1, Reads: raftstore.CommandVersion}},
		{Join: &raftstore.Join{Name: "n3", ServerID: "3", Listen: "192.168.56.13:7440", Weight: 1, Reads: raftstore.CommandVersion}},
		{Define: &raftstore.Define{Seed: 7, Definition: raftstore.Definition{
			Name: "web", Address: netip.MustParsePrefix("192.168.56.20/24"), Interface: "eth1", Hash: hashmode.SourceIP,
			Buckets: 4, MAC: "01:00:5e:28:38:14", MACMode: "multicast", OnFail: "drain", QuorumLoss: "fence",
		}}},
	} {
		if _, err := s.Propose(ctx, c); err != nil {
			return err
		}
	}
	// The record that it is a member is written a moment later.
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for range 60 {
		<-wait.C
	}
	stop()
	return <-ended
}

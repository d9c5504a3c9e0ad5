package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
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
	err = untilRecorded(ctx, dir)
	stop()
	return errors.Join(err, <-ended)
}

// untilRecorded waits until the node has written down that it is a member. It
// does so some time after it has become one, and the file is its own as long as
// it runs.
func untilRecorded(ctx context.Context, dir string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(filepath.Join(dir, "raft.db"))
		if err != nil || bytes.Contains(data, []byte(`"joined":true`)) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("the node does not write down that it is a member")
		case <-tick.C:
		}
	}
}

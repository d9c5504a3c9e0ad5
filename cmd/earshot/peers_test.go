package main

import (
	"slices"
	"testing"
)

func TestResolvePeers(t *testing.T) {
	got, err := resolvePeers(t.Context(), []string{"192.0.2.1:7440", "localhost:7441", "[2001:db8::1]:7440"})
	if want := []string{"192.0.2.1:7440", "127.0.0.1:7441", "[2001:db8::1]:7440"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("peers %v (%v), want %v", got, err, want)
	}
	if _, err := resolvePeers(t.Context(), []string{"192.0.2.1"}); err == nil {
		t.Error("a peer without a port is taken")
	}
}

package main

import (
	"errors"
	"testing"
)

func TestOneAgentInANamespace(t *testing.T) {
	first, err := takeNamespace()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeNamespace(); !errors.Is(err, errRunning) {
		t.Fatalf("a second agent in the namespace: %v", err)
	}
	first.Close()
	again, err := takeNamespace()
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}

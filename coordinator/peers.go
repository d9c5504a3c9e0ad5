package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// httpPeers reaches peers' agents over HTTP.
type httpPeers struct {
	client *http.Client
}

// NewPeers returns peers that are reached with the client, which proves the
// cluster key and demands it.
func NewPeers(client *http.Client) Peers { return httpPeers{client: client} }

// Call implements Peers.
func (p httpPeers) Call(ctx context.Context, addr, path string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask peer: %w", err)
	}
	return decodeAnswer(resp, answer)
}

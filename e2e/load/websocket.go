package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/coder/websocket"
)

// socketPath is where an HTTP server answers WebSocket clients.
const socketPath = "/socket"

// answerSocket sends each message back until the client has gone.
func answerSocket(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(nodeHeader, name)
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // the client has been told
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}
}

// socketSession is an open WebSocket.
type socketSession struct {
	plan Plan
	conn *websocket.Conn
	node string
	next int
}

func (p Plan) openSocket(_ int, r *Record) (session, error) {
	ctx, cancel := context.WithDeadline(context.Background(), r.Start.Add(p.Timeout))
	defer cancel()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return p.connect(r) }}
	conn, answer, err := websocket.Dial(ctx, fmt.Sprintf("ws://%s%s", p.Target, socketPath),
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, err
	}
	return &socketSession{plan: p, conn: conn, node: answer.Header.Get(nodeHeader)}, nil
}

// ask sends a message and waits for it to come back.
func (s *socketSession) ask(r *Record) error {
	r.Node = s.node
	ctx, cancel := context.WithDeadline(context.Background(), r.Start.Add(s.plan.Timeout))
	defer cancel()
	s.next++
	sent := strconv.AppendInt(nil, int64(s.next), 10)
	if err := s.conn.Write(ctx, websocket.MessageText, sent); err != nil {
		return errors.Join(err, ctx.Err())
	}
	_, got, err := s.conn.Read(ctx)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if !bytes.Equal(sent, got) {
		return errWrongBytes
	}
	return nil
}

func (s *socketSession) close() { _ = s.conn.CloseNow() }

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	runLimit   = 30 * time.Second // for one earshot subcommand
	stopLimit  = 20 * time.Second // for an agent to end by itself
	notifyMark = "READY=1"
)

// Node is a host of the cluster. Its agent is a process of its own that can be
// started, stopped and killed; the host stays.
type Node struct {
	*Namespace
	Port    *Port  // in the service segment
	Cluster *Port  // where the agents talk; the same as Port unless apart
	Config  Config // written by Start and WriteConfig

	dir   string // everything the node has on disk
	bin   string
	agent *Process
	ready net.PacketConn // takes the agent's sd_notify messages
}

// newNode builds the number-th node, counted from zero.
func newNode(l *Lab, number int) (*Node, error) {
	name := fmt.Sprintf("n%d", number+1)
	n := &Node{dir: filepath.Join(l.dir, name), bin: l.options.Bin}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if n.Namespace, err = NewNamespace(name); err != nil {
		return nil, err
	}
	host := byte(11 + number)
	if n.Port, err = l.Service.plug(n.Namespace, host); err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.Cluster = n.Port
	if l.Cluster != nil {
		if n.Cluster, err = l.Cluster.plug(n.Namespace, host); err != nil {
			return nil, errors.Join(err, n.close())
		}
	}
	n.Config = n.defaults(l.options)
	return n, nil
}

// defaults is the node's config; peers come when all nodes are known.
func (n *Node) defaults(o Options) Config {
	return Config{
		Node: n.Name, Listen: n.Address(), Lease: Duration(o.Lease),
		KeyFile: n.Path("key"), DataDir: n.Path("data"), Socket: n.Path("sock"),
		Services: maps.Clone(o.Services),
	}
}

// Address is where the node's agent listens.
func (n *Node) Address() string { return n.Cluster.Addr.String() + ":7440" }

// Bin is the earshot program.
func (n *Node) Bin() string { return n.bin }

// AddAddress gives the node's eth1 one more address, "192.168.56.77/24".
func (n *Node) AddAddress(prefix string) error { return n.Port.add(n.Namespace, prefix) }

// Path names a file of the node's own directory.
func (n *Node) Path(name string) string { return filepath.Join(n.dir, name) }

// WriteConfig writes n.Config to the config file.
func (n *Node) WriteConfig() error {
	text, err := n.Config.Bytes()
	if err != nil {
		return fmt.Errorf("encode config of %s: %w", n.Name, err)
	}
	return os.WriteFile(n.ConfigFile(), text, 0o644)
}

// ConfigFile names the node's config file.
func (n *Node) ConfigFile() string { return n.Path("earshot.yaml") }

// WriteKey writes the node's cluster key.
func (n *Node) WriteKey(key string) error {
	return os.WriteFile(n.Path("key"), []byte(strings.TrimSpace(key)+"\n"), 0o600)
}

// Start writes the config and starts the agent; it does not wait.
func (n *Node) Start() error {
	if err := n.WriteConfig(); err != nil {
		return err
	}
	return n.StartAgent("--config", n.ConfigFile())
}

// StartAgent starts the agent with the given arguments and files as they are.
func (n *Node) StartAgent(args ...string) error {
	if n.agent != nil && n.agent.Alive() {
		return fmt.Errorf("start agent of %s: already running", n.Name)
	}
	if err := n.listenReady(); err != nil {
		return fmt.Errorf("start agent of %s: %w", n.Name, err)
	}
	agent, err := n.Namespace.Start(Command{
		Path: n.bin, Args: append([]string{"agent"}, args...),
		Env: []string{"NOTIFY_SOCKET=" + n.Path("notify")}, Log: n.Path("log"),
	})
	if err != nil {
		return err
	}
	n.agent = agent
	return nil
}

// listenReady opens a fresh notification socket, without old messages.
func (n *Node) listenReady() error {
	n.closeReady()
	path := n.Path("notify")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var err error
	n.ready, err = net.ListenPacket("unixgram", path)
	return err
}

func (n *Node) closeReady() {
	if n.ready != nil {
		_ = n.ready.Close() // a socket without anything unsent
		n.ready = nil
	}
}

// AwaitReady waits until the agent has said that its kernel state stands.
func (n *Node) AwaitReady(limit time.Duration) error {
	if err := n.ready.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		size, _, err := n.ready.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("wait until %s is ready: %w", n.Name, err)
		}
		if slices.Contains(strings.Split(string(buf[:size]), "\n"), notifyMark) {
			return nil
		}
	}
}

// Agent is the running (or last) agent process, nil before the first.
func (n *Node) Agent() *Process { return n.agent }

// Running reports whether the agent runs.
func (n *Node) Running() bool { return n.agent != nil && n.agent.Alive() }

// Stop ends the agent by SIGTERM; another end than status 0 is an error.
func (n *Node) Stop() error {
	if !n.Running() {
		return nil
	}
	status, err := n.agent.Stop(stopLimit)
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d", status)
	}
	if err != nil {
		return fmt.Errorf("stop agent of %s: %w", n.Name, err)
	}
	return nil
}

// Kill ends the agent by SIGKILL.
func (n *Node) Kill() error {
	if !n.Running() {
		return nil
	}
	return n.agent.Kill()
}

// Pause stops the agent where it stands (SIGSTOP); its kernel goes on.
func (n *Node) Pause() error { return n.agent.Signal(unix.SIGSTOP) }

// Resume lets a paused agent go on.
func (n *Node) Resume() error { return n.agent.Signal(unix.SIGCONT) }

// Wipe removes the agent's data, as a new disk would.
func (n *Node) Wipe() error { return os.RemoveAll(n.Path("data")) }

// Run runs an earshot subcommand on the node against its agent's socket.
func (n *Node) Run(args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	return n.Namespace.Run(ctx, Command{
		Path: n.bin, Args: args, Env: []string{"EARSHOT_SOCKET=" + n.Path("sock")},
	})
}

// Log is what the node's agents have written so far.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.Path("log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// close kills what runs on the node and lets go of it.
func (n *Node) close() error {
	n.closeReady()
	n.Close()
	if n.agent != nil {
		<-n.agent.Done()
	}
	return nil
}

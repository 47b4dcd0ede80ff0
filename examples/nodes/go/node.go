// A node in Go: SLOTS jobs at once, each given to handle.
//
//	node ID "CAPABILITY ..." SLOTS
//
// REDIS_URL and FLEET_NAMESPACE say where the fleet is.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
)

// handle is your work: it takes the payload and answers the result as text. ctx ends with a cancel.
func handle(ctx context.Context, payload string) (string, error) {
	asked := struct {
		SleepMs int    `json:"sleep_ms"`
		Fail    string `json:"fail"`
	}{SleepMs: 50}
	if payload != "" {
		if err := json.Unmarshal([]byte(payload), &asked); err != nil {
			return "", err
		}
	}
	select {
	case <-time.After(time.Duration(asked.SleepMs) * time.Millisecond):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if asked.Fail != "" {
		return "", errors.New(asked.Fail)
	}
	return fmt.Sprintf(`{"echo": %s}`, payload), nil
}

type node struct {
	id, capabilities, slots, shard string
	pool                           *redis.Pool

	mu          sync.Mutex
	incarnation string
	position    string
	leaving     bool
	hand        map[string]context.CancelFunc // "<job> <fence>"
	working     sync.WaitGroup
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// fcall makes one call; what it answers begins with a word, and the rest is words and numbers.
func (n *node) fcall(name string, args ...interface{}) ([]string, error) {
	conn := n.pool.Get()
	defer conn.Close()
	values, err := redis.Values(conn.Do("FCALL", append([]interface{}{"fleet1_" + name, 1, n.shard}, args...)...))
	told := make([]string, len(values))
	for i, value := range values {
		if text, ok := value.([]byte); ok {
			told[i] = string(text)
		} else {
			told[i] = fmt.Sprint(value)
		}
	}
	return told, err
}

// insist repeats a call that is safe to repeat for as long as the server is away.
func (n *node) insist(name string, args ...interface{}) []string {
	for {
		told, err := n.fcall(name, args...)
		if err == nil {
			return told
		}
		if strings.Contains(err.Error(), "BADARG") {
			fmt.Fprintf(os.Stderr, "%s: %v\n", n.id, err)
			os.Exit(1)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (n *node) register() {
	told := n.insist("node_register", n.id, "endpoint", "inbox://"+n.id, "slots", n.slots, "capabilities", n.capabilities)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, stop := range n.hand {
		stop()
	}
	n.incarnation, n.position = told[1], "0" // a new incarnation has a new inbox
	fmt.Printf("%s: registered in %s\n", n.id, n.shard)
}

func (n *node) beat() {
	n.mu.Lock()
	args := []interface{}{n.id, n.incarnation}
	running := []string{}
	for key := range n.hand {
		running = append(running, key)
	}
	leaving := n.leaving
	n.mu.Unlock()
	if len(running) > 0 {
		args = append(args, "running", strings.Join(running, " "))
	}
	told, err := n.fcall("node_heartbeat", args...)
	switch {
	case err != nil:
	case told[0] == "unknown" && !leaving:
		n.register()
	case told[0] == "fenced":
		fmt.Fprintf(os.Stderr, "%s: another process has this id\n", n.id)
		os.Exit(3)
	case told[0] == "ok":
		for i := 2; i+1 < len(told); i += 2 { // pairs: cancel "<job> <fence>", drain <ms>
			if told[i] == "cancel" {
				n.cancel(told[i+1])
			}
		}
	}
}

func (n *node) cancel(key string) {
	n.mu.Lock()
	stop := n.hand[key]
	n.mu.Unlock()
	if stop != nil {
		stop()
		return
	}
	// one that is not known here is confirmed, too: that frees its slot
	job, fence, _ := strings.Cut(key, " ")
	go n.insist("job_finish", job, fence, "failed")
}

func (n *node) work(job, fence string) {
	key := job + " " + fence
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n.mu.Lock()
	_, known := n.hand[key]
	if !known {
		n.hand[key] = stop
	}
	n.mu.Unlock()
	if known {
		return
	}
	defer func() {
		n.mu.Lock()
		delete(n.hand, key)
		n.mu.Unlock()
	}()
	started := n.insist("job_start", job, fence)
	if started[0] != "running" { // cancelled, or another node's by now
		return
	}
	outcome := "succeeded"
	result, err := handle(ctx, started[2])
	if err != nil {
		outcome, result = "failed", err.Error()
	}
	n.insist("job_finish", job, fence, outcome, result)
	fmt.Printf("%s: %s %s\n", n.id, job, outcome)
}

// take gives what was delivered to handlers, or hands it back while the node leaves; false where there was nothing.
func (n *node) take(wait time.Duration) bool {
	n.mu.Lock()
	held, position := n.incarnation, n.position
	n.mu.Unlock()
	conn := n.pool.Get()
	defer conn.Close()
	inbox := n.shard + ":node:" + n.id + ":inbox"
	streams, err := redis.Values(redis.DoWithTimeout(conn, wait+5*time.Second,
		"XREAD", "COUNT", 100, "BLOCK", wait.Milliseconds(), "STREAMS", inbox, position))
	if err != nil {
		if err != redis.ErrNil {
			time.Sleep(500 * time.Millisecond)
		}
		return false
	}
	stream, _ := redis.Values(streams[0], nil)
	entries, _ := redis.Values(stream[1], nil)
	for _, raw := range entries {
		entry, _ := redis.Values(raw, nil)
		at, _ := redis.String(entry[0], nil)
		fields, _ := redis.StringMap(entry[1], nil)
		n.mu.Lock()
		same, leaving := held == n.incarnation, n.leaving
		if same {
			n.position = at
		}
		n.mu.Unlock()
		job, fence := fields["job"], fields["fence"]
		switch {
		case !same:
			return false
		case fields["kind"] == "cancel":
			n.cancel(job + " " + fence)
		case fields["kind"] == "job" && leaving:
			n.insist("job_finish", job, fence, "released")
		case fields["kind"] == "job":
			n.working.Add(1)
			go func() {
				defer n.working.Done()
				n.work(job, fence)
			}()
		}
	}
	return true
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, `usage: node ID "CAPABILITY ..." SLOTS`)
		os.Exit(2)
	}
	url := env("REDIS_URL", "redis://127.0.0.1:6379")
	n := &node{id: os.Args[1], capabilities: os.Args[2], slots: os.Args[3], hand: map[string]context.CancelFunc{}}
	n.pool = &redis.Pool{MaxIdle: 4, Dial: func() (redis.Conn, error) {
		return redis.DialURL(url, redis.DialConnectTimeout(2*time.Second),
			redis.DialReadTimeout(2*time.Second), redis.DialWriteTimeout(2*time.Second))
	}}
	n.shard = env("FLEET_NAMESPACE", "fleet") + ":{0}"
	n.shard = n.insist("shard_find", n.id)[1]
	// before it registers: from then on it must not go without a word
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	n.register()

	go func() {
		for range time.Tick(time.Second) {
			n.beat()
		}
	}()
	go func() {
		<-asked
		n.mu.Lock()
		n.leaving = true
		n.mu.Unlock()
	}()
	for {
		n.mu.Lock()
		leaving := n.leaving
		n.mu.Unlock()
		if leaving {
			break
		}
		n.take(500 * time.Millisecond)
	}

	n.insist("node_mark", n.id, "drain")
	for n.take(time.Millisecond) {
	}
	n.working.Wait()
	n.insist("node_remove", n.id, n.incarnation)
	fmt.Printf("%s: left\n", n.id)
}

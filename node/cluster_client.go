package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	adminTimeout   = 15 * time.Second // of a request; the node itself gives up earlier
	adminAnswerMax = 8 << 20          // bytes; thousands of members take less
)

// adminPlace says which node is asked, and how.
type adminPlace struct {
	Admin string `default:"http://127.0.0.1:9090" placeholder:"URL" help:"Admin address of a node, any of the cluster that has the role console; http://127.0.0.1:9090 if not given."`
	Token string `default:"env:PARLEY_ADMIN_TOKEN" placeholder:"PLACE" help:"Where the token of the admin API is found: env:NAME or file:PATH. Others see what stands on a command line, so it can't stand here itself. env:PARLEY_ADMIN_TOKEN if not given."`
	JSON  bool   `name:"json" help:"Print JSON instead of a table."`
}

// client makes what speaks to that node.
func (p adminPlace) client() (*adminClient, error) {
	place, err := placeOf(p.Token)
	if err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	token, err := place.Resolve("")
	if err != nil {
		return nil, fmt.Errorf("--token: %w; it is the one that admin_token in the node's configuration names", err)
	}
	base := p.Admin
	if !strings.Contains(base, "://") {
		base = "http://" + base // as serve has it
	}
	at, err := url.Parse(base)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, fmt.Errorf("--admin %q: want a URL such as http://127.0.0.1:9090", p.Admin)
	}
	return &adminClient{
		base: strings.TrimSuffix(at.Scheme+"://"+at.Host+at.Path, "/"), token: token, by: byWhom(os.Getenv("USER")),
		http: &http.Client{
			Timeout: adminTimeout,
			// No proxy: what the token opens is on a private network. No redirect either: it
			// would carry the token away. Each request has a connection of its own, so that
			// a node that takes no more of them is noticed.
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// adminClient speaks to the admin API of a node.
type adminClient struct {
	base, token string
	by          string // who asks, for the node's log
	http        *http.Client
}

const userMax = 32 // bytes of a user's name

// byWhom is how the node's log is to call the user of a command.
func byWhom(user string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if user == "" || len(user) > userMax || strings.ContainsFunc(user, odd) {
		return "cli"
	}
	return "cli " + user
}

// refusedError is a node's answer that isn't what was asked for.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return e.text }

// call asks, and decodes the answer into out, unless that is nil. The answer itself it returns, since a
// newer node may tell more than out holds.
func (c *adminClient) call(ctx context.Context, method, path string, body, out any) (json.RawMessage, error) {
	var sent io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, sent)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Operator", c.by)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, adminAnswerMax))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, c.refused(resp, answer)
	}
	if out == nil {
		return answer, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("%s answers like something else than a node: set --admin to the admin address of one", c.base)
	}
	return answer, nil
}

// unreached says of an error of the network what to look at.
func (c *adminClient) unreached(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: does the node run, and is that its admin address? Set --admin: %w", c.base, syscall.ECONNREFUSED)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer from %s in time: %w", c.base, err)
	}
	return fmt.Errorf("reach %s: %w", c.base, err)
}

// refused reads a problem, and adds what to do about it at this end.
func (c *adminClient) refused(resp *http.Response, answer []byte) error {
	var p struct {
		Detail string `json:"detail"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	known := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(answer, &p) == nil
	text := p.Detail
	for _, e := range p.Errors {
		text += ": " + e.Message
	}
	switch {
	case !known && resp.StatusCode == http.StatusNotFound:
		text = "there is no admin API at " + c.base + ": set --admin to the admin address of a node with the role console"
	case !known:
		text = fmt.Sprintf("%s answers %s, unlike a node: set --admin to the admin address of one", c.base, resp.Status)
	case resp.StatusCode == http.StatusUnauthorized:
		text = c.base + " refuses the token: " + text + " --token says where it is found here, env:PARLEY_ADMIN_TOKEN if it isn't given."
	}
	return &refusedError{status: resp.StatusCode, text: text}
}

package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

const (
	historyPage   = 200  // records, as many as the admin API gives at once
	transcriptMax = 5000 // records of a history that can be made a transcript
)

// transcript makes a transcript of the conversation of the phone that id names, for
// flow/flowtest: what its user did, and what the bot says to it now.
func (s *Stage) transcript(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		phone := s.named(r.URL.Query().Get("id"))
		if phone == nil {
			http.Error(w, metatest.ErrNoPhone.Error(), http.StatusNotFound)
			return
		}
		text, err := s.play(r.Context(), asker{stage: s, token: token}, phone)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(text)
	}
}

// named is a phone as it is now; nil if there is none.
func (s *Stage) named(id string) (named *metatest.Phone) {
	_ = s.carrier.See(func(p *metatest.Phones, _ time.Time) error {
		if f, err := p.Phone(id); err == nil {
			named = &metatest.Phone{ID: f.ID, Name: f.Name, Platform: f.Platform, Channel: f.Channel}
		}
		return nil
	})
	return named
}

func (s *Stage) play(ctx context.Context, ask asker, f *metatest.Phone) ([]byte, error) {
	records, err := ask.history(ctx, f)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("nothing has been said yet")
	}
	history, err := json.Marshal(records)
	if err != nil {
		return nil, fmt.Errorf("write the history: %w", err)
	}
	return s.runner.Play(ctx, s.cfg.Runner.Play(s.runner.Status().Bot, userName(f.Name), string(f.Platform)), history)
}

// history is all of a conversation's.
func (a asker) history(ctx context.Context, f *metatest.Phone) ([]json.RawMessage, error) {
	var all []json.RawMessage
	for {
		var page struct {
			History []json.RawMessage `json:"history"`
		}
		path := fmt.Sprintf("/api/conversation?history=%d&from=%d&conversation=%s", historyPage, len(all)+1, url.QueryEscape(conversation(f).String()))
		if err := a.get(ctx, path, &page); err != nil {
			return nil, err
		}
		all = append(all, page.History...)
		switch {
		case len(page.History) < historyPage:
			return all, nil
		case len(all) >= transcriptMax:
			return nil, fmt.Errorf("a conversation of more than %d turns", transcriptMax)
		}
	}
}

// userName is a name as a transcript has it: ada, or user if nothing of it is left.
func userName(name string) string {
	first, _, _ := strings.Cut(strings.ToLower(name), " ")
	word := strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, first)
	switch word {
	case "", "bot", "person", "wait", "at", "platform", "state", "timers", "tags", "attributes", "speaker", "behavior", "calls", "call", "dead", "reply", "of":
		return "user"
	}
	return word
}

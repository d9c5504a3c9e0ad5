package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// dnsQuestion is what a name server is asked.
type dnsQuestion struct {
	address string
	name    string
	kind    uint16
	network string // "udp" or "tcp"
	expect  expectation
}

// probe returns the probe: the server must answer without an error and with at
// least one record of the kind.
func (q dnsQuestion) probe() probe {
	return func(ctx context.Context) error {
		client := &dns.Client{Net: q.network, UDPSize: dns.DefaultMsgSize}
		if deadline, ok := ctx.Deadline(); ok {
			client.Timeout = time.Until(deadline) // else the library's own two seconds
		}
		question := new(dns.Msg)
		question.SetQuestion(dns.Fqdn(q.name), q.kind)
		answer, _, err := client.ExchangeContext(ctx, question, q.address)
		if err != nil {
			return inTime(ctx, err)
		}
		return q.judge(answer)
	}
}

func (q dnsQuestion) judge(answer *dns.Msg) error {
	kind := dns.TypeToString[q.kind]
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("answers with error %d %s", answer.Rcode, dns.RcodeToString[answer.Rcode])
	}
	if !answer.Response || len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, dns.Fqdn(q.name)) {
		return errors.New("answers another question")
	}
	var records []string
	for _, record := range answer.Answer {
		if record.Header().Rrtype == q.kind {
			records = append(records, record.String())
		}
	}
	if len(records) == 0 {
		return fmt.Errorf("knows no %s of %s", kind, q.name)
	}
	return q.expect.in([]byte(strings.Join(records, "\n")), "the answer")
}

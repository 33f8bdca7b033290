package supervisor

import (
	"strings"
	"time"
)

// wait says why nothing is done, and looks again soon.
func (s *Supervisor) wait(reason, hint string) {
	if s.said.anew(saidWaiting, reason) {
		if hint == "" {
			s.Log.Warn(reason)
		} else {
			s.Log.Warn(reason, "hint", strings.ReplaceAll(hint, "\n", "; "))
		}
	}
	s.lookAgainIn(lookAgain)
}

// tellPlanFile says that the plan file can't be read as a plan, once this has lasted: between the two system calls of
// a node that writes it, it is empty.
func (s *Supervisor) tellPlanFile(fault error) {
	switch {
	case fault == nil:
		s.faultSince = time.Time{}
	case s.faultSince.IsZero():
		s.faultSince = time.Now()
		s.lookAgainIn(settleTime)
		return
	case time.Since(s.faultSince) < settleTime:
		return
	}
	s.warn(saidPlanFile, fault)
}

// warn logs an error when it is another than the last of its kind. Nil ends the matter.
func (s *Supervisor) warn(kind string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if s.said.anew(kind, text) {
		s.Log.Warn(kind, "err", err)
	}
}

// Kinds of what is told that the status shows too.
const (
	saidWaiting  = "waiting"
	saidPlanFile = "the plan file is not a whole plan; it is read again when it changes"
	saidLocked   = "manual plans are locked by another process; retrying"
	saidSigned   = "what the validator has signed can't be recorded"
)

// said keeps a state that lasts from being told again and again.
type said map[string]string

// anew says whether the text is not empty and another than the last of its kind.
func (s *said) anew(kind, text string) bool {
	if *s == nil {
		*s = said{}
	}
	last := (*s)[kind]
	(*s)[kind] = text
	return text != "" && text != last
}

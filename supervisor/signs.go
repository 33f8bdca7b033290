package supervisor

import (
	"sync"
	"time"

	"solstice/watch"
)

// signsEvery is how often the mark of what was signed is raised at most while the node runs. A validator signs two or
// three times a block.
const signsEvery = time.Second

// checkSigned refuses a start below what was signed, and raises the mark. A mark that can't be raised is told.
func (s *Supervisor) checkSigned() error {
	s.signs.Lock()
	defer s.signs.Unlock()
	if err := s.Signs.Check(); err != nil {
		return err
	}
	_, err := s.Signs.Record()
	s.warn(saidSigned, err)
	return nil
}

// recordSigned raises the mark to what the node has signed.
func (s *Supervisor) recordSigned() error {
	s.signs.Lock()
	defer s.signs.Unlock()
	_, err := s.Signs.Record()
	return err
}

// keepSigns raises the mark while the node runs, beside the loop: it syncs, and the loop may have a plan to see to. What it
// can't do is told when the node ends.
func (s *Supervisor) keepSigns() (stop func()) {
	file, _ := watch.New(s.Signs.StateFile, 5*time.Second) // without events the poll serves
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-file.Hints():
				_ = s.recordSigned()
			}
			select {
			case <-done:
				return
			case <-time.After(signsEvery):
			}
		}
	})
	return func() {
		file.Close()
		close(done)
		wait.Wait()
	}
}

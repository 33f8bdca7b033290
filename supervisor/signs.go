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
	if err := s.now().Signs.Check(); err != nil {
		return err
	}
	_, err := s.now().Signs.Record()
	s.warn(saidSigned, err)
	return nil
}

// recordSigned raises the mark to what the node has signed.
func (s *Supervisor) recordSigned() error {
	s.signs.Lock()
	defer s.signs.Unlock()
	_, err := s.now().Signs.Record()
	return err
}

// keepSigns raises the mark while the node runs, beside the loop: it syncs, and the loop may have a plan to see to. What it
// can't do is told when the node ends.
func (s *Supervisor) keepSigns() (stop func()) {
	watched := func() *watch.File {
		file, _ := watch.New(s.now().Signs.StateFile, 5*time.Second) // without events the poll serves
		return file
	}
	file := watched()
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		defer func() { file.Close() }()
		for {
			select {
			case <-done:
				return
			case <-s.reread:
				file.Close()
				file = watched()
				continue
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
		close(done)
		wait.Wait()
	}
}

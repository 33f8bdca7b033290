package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"solstice"
)

const (
	genesisTime = 3 * time.Second // for reading as much of it as is needed
	maxScalar   = 1024            // bytes of a key or a value that we look at
)

// readGenesis returns the height of a chain's first block and its name, as the genesis file
// says. The file can have hundreds of megabytes, of which it is read only up to the later of
// the two. They stand before the application's state, unless somebody has sorted the keys;
// then all of it has to be read, and if there is not the time for that, they are not known.
func readGenesis(path string) (initial int64, chainID string, err error) {
	file, err := solstice.OpenFile(path)
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	initial, chainID, err = scanGenesis(&untilDeadline{file, time.Now().Add(genesisTime)})
	if err != nil {
		return 0, "", fmt.Errorf("read %s: %w", path, err)
	}
	return initial, chainID, nil
}

// untilDeadline reads as long as there is time.
type untilDeadline struct {
	io.Reader
	deadline time.Time
}

func (r *untilDeadline) Read(p []byte) (int, error) {
	if time.Now().After(r.deadline) {
		return 0, errors.New("timed out before initial_height was found")
	}
	return r.Reader.Read(p)
}

// scanGenesis finds initial_height and chain_id in an object of JSON. As CometBFT has it, a
// chain whose genesis names no height, or 0, begins at 1.
func scanGenesis(r io.Reader) (initial int64, chainID string, err error) {
	in := &jsonReader{bufio.NewReaderSize(r, 256<<10)}
	if err := in.expect('{'); err != nil {
		return 0, "", err
	}
	var haveInitial, haveChain bool
	for !haveInitial || !haveChain {
		c, err := in.next()
		if err != nil {
			return 0, "", err
		}
		if c == '}' {
			break
		}
		if c == ',' {
			continue
		}
		key, err := in.scalar(c)
		if err == nil {
			err = in.expect(':')
		}
		if err == nil {
			c, err = in.next()
		}
		if err != nil {
			return 0, "", err
		}
		switch key {
		case "initial_height":
			value, err := in.scalar(c)
			if err != nil {
				return 0, "", err
			}
			haveInitial = true
			if value == "null" || value == "" {
				continue
			}
			if initial, err = strconv.ParseInt(value, 10, 64); err != nil || initial < 0 {
				return 0, "", fmt.Errorf("initial_height is %.40q", value)
			}
		case "chain_id":
			if chainID, err = in.scalar(c); err != nil {
				return 0, "", err
			}
			haveChain = true
		default:
			if err := in.skip(c); err != nil {
				return 0, "", err
			}
		}
	}
	return max(initial, 1), chainID, nil
}

// jsonReader reads JSON without holding it in memory. It takes what is no JSON too, as long
// as it can tell where a value ends.
type jsonReader struct{ in *bufio.Reader }

// next returns the next byte that is no space.
func (r *jsonReader) next() (byte, error) {
	for {
		c, err := r.in.ReadByte()
		if err = noEOF(err); err != nil || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c, err
		}
	}
}

func (r *jsonReader) expect(want byte) error {
	c, err := r.next()
	if err == nil && c != want {
		err = fmt.Errorf("not JSON: %q instead of %q", c, want)
	}
	return err
}

// scalar reads a short string, number or word that begins with c.
func (r *jsonReader) scalar(c byte) (string, error) {
	text := []byte{c}
	for isString := c == '"'; ; {
		b, err := r.in.ReadByte()
		if err != nil {
			return "", noEOF(err)
		}
		if !isString && bytes.IndexByte([]byte(",}] \n\t\r:"), b) >= 0 {
			return string(text), r.in.UnreadByte()
		}
		if text = append(text, b); len(text) > maxScalar {
			return "", fmt.Errorf("%.40q is too long", text)
		}
		if isString && b == '"' && !escaped(text[:len(text)-1]) {
			var value string
			if err := json.Unmarshal(text, &value); err != nil {
				return "", err
			}
			return value, nil
		}
	}
}

// escaped says whether the byte behind text is escaped: an odd number of backslashes stands
// before it.
func escaped(text []byte) bool {
	return (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 1
}

// skip reads to the end of a value that begins with c.
func (r *jsonReader) skip(c byte) error {
	if c != '{' && c != '[' {
		return r.skipScalar(c)
	}
	for depth := 1; depth > 0; {
		// As much as is buffered at once: the application's state is nearly all of the file.
		if _, err := r.in.Peek(1); err != nil {
			return noEOF(err)
		}
		buffered, _ := r.in.Peek(r.in.Buffered())
		i := bytes.IndexAny(buffered, `"{}[]`)
		if i < 0 {
			i = len(buffered) - 1
		}
		c := buffered[i]
		if _, err := r.in.Discard(i + 1); err != nil {
			return err
		}
		switch c {
		case '"':
			if err := r.skipString(); err != nil {
				return err
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
	}
	return nil
}

func (r *jsonReader) skipScalar(c byte) error {
	if c == '"' {
		return r.skipString()
	}
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if bytes.IndexByte([]byte(",}"), b) >= 0 {
			return r.in.UnreadByte()
		}
	}
}

// skipString reads to the end of a string whose quote is read.
func (r *jsonReader) skipString() error {
	odd := false // whether the part before ended with a backslash that escapes what follows
	for {
		part, err := r.in.ReadSlice('"')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return noEOF(err)
		}
		text := bytes.TrimSuffix(part, []byte{'"'})
		slashes := len(text) - len(bytes.TrimRight(text, `\`))
		isEscaped := slashes%2 == 1
		if slashes == len(text) && odd {
			isEscaped = !isEscaped
		}
		if err == nil && !isEscaped {
			return nil
		}
		odd = err != nil && isEscaped // an escaped quote is behind us; a full buffer is not
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

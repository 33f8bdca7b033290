package node

import "google.golang.org/protobuf/encoding/protowire"

// each calls see with every field of a whole protobuf message: bytes fields with their content, varints with their number.
func each(message []byte, see func(field protowire.Number, content []byte, value uint64)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		switch kind {
		case protowire.BytesType:
			content, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			see(field, content, 0)
			message = message[n:]
		case protowire.VarintType:
			value, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return protowire.ParseError(n)
			}
			see(field, nil, value)
			message = message[n:]
		default:
			if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
				return protowire.ParseError(n)
			}
			message = message[n:]
		}
	}
	return nil
}

// all returns the content of every bytes field with this number.
func all(message []byte, want protowire.Number) (contents [][]byte, err error) {
	err = each(message, func(field protowire.Number, content []byte, _ uint64) {
		if field == want && content != nil {
			contents = append(contents, content)
		}
	})
	return contents, err
}

// only returns the last bytes field with this number, as proto3 does, or nil.
func only(message []byte, want protowire.Number) ([]byte, error) {
	contents, err := all(message, want)
	if err != nil || contents == nil {
		return nil, err
	}
	return contents[len(contents)-1], nil
}

// part is only of a message that may be damaged: then it is nil.
func part(message []byte, want protowire.Number) []byte {
	content, err := only(message, want)
	if err != nil {
		return nil
	}
	return content
}

// number returns the last varint field with this number, or 0, which proto3 leaves out.
func number(message []byte, want protowire.Number) (value int64, err error) {
	err = each(message, func(field protowire.Number, content []byte, v uint64) {
		if field == want && content == nil {
			value = int64(v)
		}
	})
	return value, err
}

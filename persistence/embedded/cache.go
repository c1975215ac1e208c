package embedded

// cache remembers at least the last max/2 entries used and never more than max.
// It has two generations: a full young one becomes the old one, whose entries
// return to the young one when they are used.
type cache[K comparable, V any] struct {
	max        int
	young, old map[K]V
}

func newCache[K comparable, V any](limit int) cache[K, V] {
	return cache[K, V]{max: limit, young: map[K]V{}}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if len(c.young) >= c.max/2 {
		c.old, c.young = c.young, make(map[K]V, len(c.young))
	}
	c.young[k] = v
}

func (c *cache[K, V]) drop(k K) {
	delete(c.young, k)
	delete(c.old, k)
}

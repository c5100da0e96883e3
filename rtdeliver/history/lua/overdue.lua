-- Gives events whose claims have ended to the caller. `common.lua` runs before this.
--
-- ARGV[4]  milliseconds within which the caller must deliver them
-- ARGV[5]  how many at most
--
-- Returns {how many events were stored in all, the events}: for each the topic, a line break, f if
-- peers are to be sent it, its epoch and NUMBER-TIME after spaces, a line break, its line, and a line
-- break.

local claims, found = prefix .. 'history-claims', {}
for _, claim in ipairs(redis.call('ZRANGEBYSCORE', claims, '-inf', text(now), 'LIMIT', 0, ARGV[5])) do
  local number, way, topic = string.match(claim, '(%d+) (%l) (.*)')
  local meta = read_meta(topic)
  local entry = meta and
    redis.call('XRANGE', stream_of(topic), number, number, 'COUNT', 1)[1]
  if entry then
    redis.call('ZADD', claims, text(now + tonumber(ARGV[4])), claim)
    local place = way .. ' ' .. meta.epoch .. ' ' .. entry[1]
    found[#found + 1] = topic .. '\n' .. place .. '\n' .. entry[2][#entry[2]] .. '\n'
  else
    redis.call('ZREM', claims, claim)
  end
end
return {text(store.count), table.concat(found)}

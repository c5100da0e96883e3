-- Gives events whose claims have ended to the caller. `common.lua` runs before this.
--
-- ARGV[4]  milliseconds within which the caller must deliver them
-- ARGV[5]  how many at most
--
-- Returns {how many events were stored in all, then for each event: the topic, f if peers are to be
-- sent it, epoch, NUMBER-TIME, line...}.

local claims, answer = prefix .. 'history-claims', {text(store.count)}
for _, claim in ipairs(redis.call('ZRANGEBYSCORE', claims, '-inf', text(now), 'LIMIT', 0, ARGV[5])) do
  local number, way, topic = string.match(claim, '(%d+) (%l) (.*)')
  local meta = read_meta(topic)
  local entry = meta and
    redis.call('XRANGE', stream_of(topic), number, number, 'COUNT', 1)[1]
  if entry then
    redis.call('ZADD', claims, text(now + tonumber(ARGV[4])), claim)
    for _, each in ipairs({topic, way, meta.epoch, entry[1], entry[2][#entry[2]]}) do
      answer[#answer + 1] = each
    end
  else
    redis.call('ZREM', claims, claim)
  end
end
return answer

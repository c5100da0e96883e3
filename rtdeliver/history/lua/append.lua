-- Stores events. `common.lua` runs before this.
--
-- ARGV[4]     milliseconds within which the caller must deliver them
-- ARGV[5...]  for each run of events of one topic: the topic, how many of its events are kept, for
--             how many milliseconds, and the number of events; then for each event f if peers are
--             to be sent it or h, its id if that must be remembered, a line break, and its line
--
-- Returns {how many were stored in all, places, lines}: for each run its epoch, NUMBER-TIME for each
-- event, and =NUMBER-TIME for one that was stored before, all after commas; and the lines of these,
-- each before a line break.

local claim = tonumber(ARGV[4])
-- No script removes more events of a topic than this, and as many as it adds.
local MOST_REMOVED = 1000
local places, lines, i = {}, {}, 5

local function open(topic)
  local meta = read_meta(topic)
  if not meta then
    if redis.call('DEL', stream_of(topic), prefix .. 'history-ids:' .. topic) > 0 then
      -- Redis has evicted it.
      store.lost = now
    end
    return {epoch = fresh, run = run, number = 0, at = 0, begun = now, past = ''}
  end
  if meta.run ~= run then
    local past = {meta.epoch .. ':' .. text(meta.number)}
    for each in string.gmatch(meta.past, '[^,]+') do
      if #past < 4 then
        past[#past + 1] = each
      end
    end
    meta.epoch, meta.run, meta.past = fresh, run, table.concat(past, ',')
  end
  return meta
end

local function remove(key, ids_key, count)
  local entries = redis.call('XRANGE', key, '-', '+', 'COUNT', count)
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'i' then
      redis.call('HDEL', ids_key, entry[2][2])
    end
  end
  redis.call('XTRIM', key, 'MAXLEN', redis.call('XLEN', key) - #entries)
end

while i <= #ARGV do
  local topic, most, keep = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local last = i + 3 + tonumber(ARGV[i + 3])
  i = i + 4
  local key, ids_key = stream_of(topic), prefix .. 'history-ids:' .. topic
  local meta = open(topic)
  local added = 0
  places[#places + 1] = meta.epoch
  meta.at = math.max(now, meta.at)
  while i <= last do
    local cut = string.find(ARGV[i], '\n', 1, true)
    local way, id = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2, cut - 1)
    local line = string.sub(ARGV[i], cut + 1)
    i = i + 1
    local held = id ~= '' and redis.call('HGET', ids_key, id)
    if held then
      local entry = redis.call('XRANGE', key, held, held)[1]
      places[#places + 1] = '=' .. held
      lines[#lines + 1] = (entry and entry[2][#entry[2]] or line) .. '\n'
    else
      meta.number, added = meta.number + 1, added + 1
      local place = text(meta.number) .. '-' .. text(meta.at)
      if id ~= '' then
        redis.call('XADD', key, place, 'i', id, 'l', line)
        redis.call('HSET', ids_key, id, place)
      else
        redis.call('XADD', key, place, 'l', line)
      end
      redis.call('ZADD', prefix .. 'history-claims', text(now + claim),
        text(meta.number) .. ' ' .. way .. ' ' .. topic)
      places[#places + 1] = place
    end
  end
  if added > 0 then
    store.count = store.count + added
    local meta_key = prefix .. 'history-meta:' .. topic
    redis.call('HSET', meta_key, 'epoch', meta.epoch, 'run', meta.run, 'number', text(meta.number),
      'at', text(meta.at), 'begun', text(meta.begun), 'past', meta.past)
    local over = redis.call('XLEN', key) - most
    if over > 0 then
      remove(key, ids_key, math.min(over, added + MOST_REMOVED))
    end
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    local _, oldest_at = place_of(oldest)
    if oldest_at < now - keep then
      local number = place_of(oldest)
      remove(key, ids_key, math.min(first_since(topic, meta, now - keep) - number, MOST_REMOVED))
    end
    redis.call('PEXPIRE', key, text(keep + 1))
    redis.call('PEXPIRE', ids_key, text(keep + 1))
    redis.call('PEXPIRE', meta_key, text(known_for(keep)))
  end
end

redis.call('HSET', store_key, 'count', text(store.count), 'lost', text(store.lost))
return {text(store.count), table.concat(places, ','), table.concat(lines)}

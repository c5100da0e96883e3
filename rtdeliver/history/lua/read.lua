-- Reads a part of a history. `common.lua` runs before this.
--
-- ARGV[4]   the topic
-- ARGV[5]   for how many milliseconds its events are kept
-- ARGV[6]   what is asked for: own (after a place of this topic), time, rewind, before, or all
-- ARGV[7]   own, before: the epoch of the place; otherwise empty
-- ARGV[8]   own, before: the number of the place; rewind: how many events
-- ARGV[9]   own, before: the time of the place; time: the time
-- ARGV[10]  milliseconds by which it is read earlier where only the time is known
-- ARGV[11]  how many events at most
-- ARGV[12]  how many bytes at most
--
-- Returns {how many events were stored in all, epoch, number and time of the last event, number and
-- time of the event before the first one, how many are lost or -1, the NUMBER-TIME of each event
-- before a comma, and its line before a line break}. The epoch is empty if nothing is stored.

local topic, keep, asked, epoch = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local number, at, overlap = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local limit, most_bytes = tonumber(ARGV[11]), tonumber(ARGV[12])
local UNKNOWN = -1
local key, meta = stream_of(topic), read_meta(topic)

-- The number of the oldest event that is kept; if there is none, the number after the last one.
local first = 1
if meta then
  first = meta.number + 1
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if oldest then
    local oldest_number, oldest_at = place_of(oldest)
    first = oldest_number
    if oldest_at < now - keep then
      first = first_since(topic, meta, now - keep)
    end
  end
end

-- Returns the number of the last event of an epoch, and whether it is the one of this process of
-- Redis; nil if nothing is known of the epoch.
local function end_of(name)
  if name == meta.epoch then
    return meta.number, meta.run == run
  end
  for past, last in string.gmatch(meta.past, '(%x+):(%d+)') do
    if past == name then
      return tonumber(last), false
    end
  end
  return nil
end

local function start_at(time)
  local lost = 0
  if not meta or meta.begun > time then
    -- Nothing is known of before, but that no event came for so long.
    local known = (meta and meta.begun or now) - known_for(keep)
    if time < math.max(store.begun, known) then
      lost = UNKNOWN
    end
  end
  if time < store.lost then
    lost = UNKNOWN
  end
  if not meta then
    return 0, lost
  end
  local oldest_at = meta.at
  if first <= meta.number then
    local entry = redis.call('XRANGE', key, text(first), '+', 'COUNT', 1)[1]
    local _, stored_at = place_of(entry)
    oldest_at = stored_at
  end
  if first > 1 and oldest_at >= time then
    lost = UNKNOWN
  end
  return math.max(first, first_since(topic, meta, time)) - 1, lost
end

local function start_after_own()
  local last, is_current
  if meta then
    last, is_current = end_of(epoch)
  end
  if last then
    if number > last then
      return math.max(last, first - 1), UNKNOWN
    end
    local start = math.max(number, first - 1)
    if not is_current and store.lost > at then
      return start, UNKNOWN
    end
    return start, start - number
  end
  if not meta or meta.begun > at then
    return first - 1, UNKNOWN
  end
  return start_at(at - overlap)
end

local start, lost, finish = first - 1, 0, meta and meta.number or 0
if asked == 'own' then
  start, lost = start_after_own()
elseif asked == 'time' then
  start, lost = start_at(at - overlap)
elseif asked == 'rewind' then
  start = math.max(first - 1, finish - number)
elseif asked == 'before' and meta then
  if end_of(epoch) then
    finish = math.min(math.max(number, first) - 1, finish)
  else
    finish = first_since(topic, meta, at) - 1
  end
end

if not meta then
  return {text(store.count), '', '0', '0', '0', '0', text(lost), '', ''}
end

-- Returns the events from one number to another, as many as fit, from one end or the other.
local function read(from, to, is_backward)
  local found, size = {}, 0
  while from <= to and #found < limit do
    local entries
    if is_backward then
      entries = redis.call('XREVRANGE', key, text(to), text(from), 'COUNT',
        math.min(50, limit - #found))
      to = to - #entries
    else
      entries = redis.call('XRANGE', key, text(from), text(to), 'COUNT',
        math.min(50, limit - #found))
      from = from + #entries
    end
    for _, entry in ipairs(entries) do
      size = size + #entry[2][#entry[2]]
      if #found > 0 and size > most_bytes then
        return found
      end
      found[#found + 1] = entry
    end
    if #entries == 0 then
      return found
    end
  end
  return found
end

local found, is_backward = {}, asked == 'before'
if finish > start then
  found = read(start + 1, finish, is_backward)
  if is_backward then
    start = finish - #found
  end
end
local start_place = '0'
if start >= first then
  local entry = redis.call('XRANGE', key, text(start), '+', 'COUNT', 1)[1]
  local _, stored_at = place_of(entry)
  start_place = text(stored_at)
end
local places, lines = {}, {}
for i = 1, #found do
  local entry = found[is_backward and #found + 1 - i or i]
  places[i], lines[i] = entry[1] .. ',', entry[2][#entry[2]] .. '\n'
end
return {text(store.count), meta.epoch, text(meta.number), text(meta.at), text(start), start_place,
  text(lost), table.concat(places), table.concat(lines)}

-- The first part of the scripts on histories.
--
-- Keys; each begins with the prefix. Times are in milliseconds since the epoch, by the clock of
-- Redis. The first three expire some time after the last event.
--
--   history:TOPIC       stream of the events; an entry's id is NUMBER-TIME, and its fields are
--                       i (the event's id, if it must be remembered) and l (its line)
--   history-meta:TOPIC  hash
--     epoch             the name of the epoch; there is another one once something may be lost
--     run               the process of Redis in which the epoch began
--     number, at        those of the last event
--     begun             when the first epoch began
--     past              EPOCH:NUMBER of the last event, of a few epochs before, the latest first
--   history-ids:TOPIC   hash: NUMBER-TIME by the ids that must be remembered
--   history-claims      sorted set: NUMBER WAY TOPIC by when another dispatcher may deliver the event
--   history-store       hash
--     begun             when Redis had nothing
--     count             how many events were stored
--     lost              when it was noticed that Redis had lost events; 0 for never
--
-- ARGV[1]  prefix
-- ARGV[2]  how many events the caller knows to be stored
-- ARGV[3]  a name for a new epoch

local prefix, fresh = ARGV[1], ARGV[3]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
-- Another process of Redis may have lost the last events.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

local function text(number)
  return string.format('%.0f', number)
end

local store_key, store = prefix .. 'history-store', {}
do
  local held = redis.call('HMGET', store_key, 'begun', 'count', 'lost')
  store.begun, store.count = tonumber(held[1] or now), tonumber(held[2] or 0)
  store.lost = tonumber(held[3] or 0)
  local known = tonumber(ARGV[2])
  if known > store.count then
    store.count, store.lost = known, now
  end
  if not held[1] or store.lost == now then
    redis.call('HSET', store_key, 'begun', text(store.begun), 'count', text(store.count), 'lost',
      text(store.lost))
  end
end

-- Returns for how long a topic is known after its last event, in milliseconds: longer than the event
-- is kept, so that a viewer of a quiet topic is not told of a loss.
local function known_for(keep)
  return 2 * keep + 3600000
end

local function stream_of(topic)
  return prefix .. 'history:' .. topic
end

-- Returns what is known of a topic; nil if nothing is.
local function read_meta(topic)
  local held = redis.call('HMGET', prefix .. 'history-meta:' .. topic, 'epoch', 'run', 'number',
    'at', 'begun', 'past')
  if not held[1] then
    return nil
  end
  return {epoch = held[1], run = held[2], number = tonumber(held[3]), at = tonumber(held[4]),
    begun = tonumber(held[5]), past = held[6]}
end

-- Returns the number and the time of an entry.
local function place_of(entry)
  local number, at = string.match(entry[1], '(%d+)-(%d+)')
  return tonumber(number), tonumber(at)
end

-- Returns the number of the first event that was stored at a time or later; if there is none, the
-- number after the last one.
local function first_since(topic, meta, at)
  local key = stream_of(topic)
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return meta.number + 1
  end
  local low, high = place_of(oldest), meta.number + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('XRANGE', key, text(middle), '+', 'COUNT', 1)[1]
    local _, stored_at = place_of(entry)
    if stored_at < at then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

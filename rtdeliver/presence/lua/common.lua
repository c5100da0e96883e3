-- Stands before each script that changes who is there.
--
-- Keys of presence, each with the prefix before it. Times are milliseconds since the epoch, by the
-- clock of Redis.
--
--   member:MEMBER  hash
--     online       1 or 0
--     heartbeat    when the last heartbeat came
--     ends         when the member goes offline, if no heartbeat comes before
--     changed      when the member came or went last
--     before       when the change before that was; 0 if that change is published
--     claimed      until when somebody has to publish the change; 0 once it is published
--   members        sorted set: each member by the time at which it is to be looked at
--
-- Both expire a day after the last heartbeat, in case nobody is left to look.
--
-- ARGV[1]  prefix

local prefix, now = ARGV[1], redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local members_key, day = prefix .. 'members', 86400000

local function key(member)
  return prefix .. 'member:' .. member
end

-- Returns the entry of a member, or nil.
local function read(member)
  local held = redis.call('HMGET', key(member), 'online', 'ends', 'changed', 'before', 'claimed')
  if not held[1] then
    return nil
  end
  return {online = held[1] == '1', ends = tonumber(held[2]), changed = tonumber(held[3]),
    before = tonumber(held[4]), claimed = tonumber(held[5])}
end

-- Returns a time as Redis keeps it: whole milliseconds, in digits.
local function text(number)
  return string.format('%.0f', number)
end

local function write(member, entry)
  redis.call('HSET', key(member), 'online', entry.online and '1' or '0', 'ends', text(entry.ends),
    'changed', text(entry.changed), 'before', text(entry.before), 'claimed', text(entry.claimed))
  redis.call('PEXPIRE', key(member), text(math.max(0, entry.ends - now) + day))
  local due = entry.claimed
  if entry.online and (due == 0 or entry.ends < due) then
    due = entry.ends
  end
  redis.call('ZADD', members_key, text(due), member)
end

-- Makes an online member offline or an offline one online. The caller has `claim` milliseconds to
-- publish that.
local function flip(entry, claim)
  entry.online = not entry.online
  entry.before = entry.claimed > 0 and entry.changed or 0
  entry.changed = math.max(now, entry.changed + 1)
  entry.claimed = now + claim
end

-- What the caller is to publish, for each member:
--   {name, 1 if online or 0, when it came or went, when the change before that was}
-- The last is 0 if that change is published.
local changes = {}

local function add_change(member, entry)
  changes[#changes + 1] = {member, entry.online and 1 or 0, text(entry.changed), text(entry.before)}
end

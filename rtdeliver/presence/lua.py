"""The transactions of presence, as Redis runs them.

Keys, all with a prefix; times are milliseconds since the epoch, by Redis' own clock:

    member:MEMBER  hash: online (0 or 1), heartbeat, ends (when it goes offline), changed (when it
                   came or went last), before (when the change before that was, or 0 if that is
                   published), claimed (until when somebody has to publish the change; 0 once it
                   is published)
    members        sorted set: members by the time at which they are to be looked at

Both expire a day after the last heartbeat, if nobody is left to look.
"""

_PREAMBLE = """
local prefix, now = ARGV[1], redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local members_key, day = prefix .. 'members', 86400000
local function key(member) return prefix .. 'member:' .. member end
local function read(member)
  local held = redis.call('HMGET', key(member), 'online', 'ends', 'changed', 'before', 'claimed')
  if not held[1] then return nil end
  return {online = held[1] == '1', ends = tonumber(held[2]), changed = tonumber(held[3]),
    before = tonumber(held[4]), claimed = tonumber(held[5])}
end
local function text(number) return string.format('%.0f', number) end
local function write(member, entry)
  redis.call('HSET', key(member), 'online', entry.online and '1' or '0', 'ends', text(entry.ends),
    'changed', text(entry.changed), 'before', text(entry.before), 'claimed', text(entry.claimed))
  redis.call('PEXPIRE', key(member), text(math.max(0, entry.ends - now) + day))
  local due = entry.claimed
  if entry.online and (due == 0 or entry.ends < due) then due = entry.ends end
  redis.call('ZADD', members_key, text(due), member)
end
local function flip(entry, claim)
  entry.online = not entry.online
  entry.before = entry.claimed > 0 and entry.changed or 0
  entry.changed = math.max(now, entry.changed + 1)
  entry.claimed = now + claim
end
local changes = {}
local function add_change(member, entry)
  changes[#changes + 1] = {member, entry.online and 1 or 0, text(entry.changed), text(entry.before)}
end
"""

HEARTBEAT = (
    _PREAMBLE
    + """
local ends, claim = now + tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 4, #ARGV do
  local member = ARGV[i]
  local entry = read(member)
  if not entry then
    entry = {online = true, changed = now, before = 0, claimed = now + claim}
    add_change(member, entry)
  elseif not entry.online then
    flip(entry, claim)
    add_change(member, entry)
  end
  entry.ends = ends
  write(member, entry)
  redis.call('HSET', key(member), 'heartbeat', text(now))
end
redis.call('PEXPIRE', members_key, text(ends - now + day))
return changes
"""
)
"""Arguments: prefix, milliseconds until a member goes offline, of a claim, members.

Returns for each member of whom there is something to publish: name, online, when that was, when
the change before it was (0 if that is published).
"""

SWEEP = (
    _PREAMBLE
    + """
local limit, claim = ARGV[2], tonumber(ARGV[3])
for _, member in ipairs(
  redis.call('ZRANGEBYSCORE', members_key, '-inf', text(now), 'LIMIT', 0, limit)
) do
  local entry = read(member)
  if entry then
    if entry.online and entry.ends <= now then
      flip(entry, claim)
    else
      entry.claimed = now + claim
    end
    add_change(member, entry)
    write(member, entry)
  else
    redis.call('ZREM', members_key, member)
  end
end
local first = redis.call('ZRANGE', members_key, 0, 0, 'WITHSCORES')
return {changes, first[2] and text(tonumber(first[2]) - now) or ''}
"""
)
"""Arguments: prefix, how many members at most, milliseconds of a claim.

Returns what `HEARTBEAT` does, and in how many milliseconds the next member is to be looked at.
"""

MARK_PUBLISHED = (
    _PREAMBLE
    + """
for i = 2, #ARGV, 2 do
  local member, at = ARGV[i], tonumber(ARGV[i + 1])
  local entry = read(member)
  if entry and entry.before == at then
    entry.before = 0
    write(member, entry)
  elseif entry and entry.changed == at and entry.online then
    entry.before, entry.claimed = 0, 0
    write(member, entry)
  elseif entry and entry.changed == at then
    redis.call('DEL', key(member))
    redis.call('ZREM', members_key, member)
  end
end
return 1
"""
)
"""Arguments: prefix, and for each change that was published: member, when it was."""

PRESENCE = """
local answer = {}
for i = 2, #ARGV do
  local held = redis.call('HMGET', ARGV[1] .. 'member:' .. ARGV[i], 'online', 'heartbeat')
  answer[i - 1] = held[1] == '1' and held[2] or ''
end
return answer
"""
"""Arguments: prefix, members. Returns when each was last heard of; empty for one who is offline."""
